"""Bugs to be planted into a service under test: the storm must find each of them.

They replace parts of the code in the process that `entry` starts, and exist nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from shared.bus import applying, relay
from shared.bus.relay import Relay
from shared.db import batcher
from shared.db.batcher import Batcher
from shared.events import Event


@dataclass(frozen=True)
class Plant:
    """`sow` replaces code of the running process."""

    about: str
    sow: Callable[[], None]


def _ack_before_commit() -> None:
    """Callers are answered when their batch is written, not when it has committed."""
    under_way: ContextVar[Sequence[Any]] = ContextVar("under_way")  # a lane's own
    make, transact = Batcher.__init__, Batcher._transact

    def hasty(self: Any, name: str, pool: Any, flush: Any, **more: Any) -> None:
        async def answering(tx: Any, items: Sequence[Any]) -> Any:
            results = await flush(tx, items)
            for entry, result in zip(under_way.get(), results, strict=True):
                batcher._answer(entry.answer, result)
            return results

        make(self, name, pool, answering, **more)

    async def noted(self: Any, batch: Sequence[Any]) -> Any:
        under_way.set(batch)
        return await transact(self, batch)

    Batcher.__init__ = hasty  # type: ignore[method-assign]
    Batcher._transact = noted  # type: ignore[method-assign]


def _relay_deletes_before_ack() -> None:
    send = Relay._send

    async def forgetful(self: Relay, connection: Any, rows: Sequence[Any]) -> bool:
        await connection.execute(relay.DELETE, [row["id"] for row in rows])
        return await send(self, connection, rows)

    Relay._send = forgetful  # type: ignore[method-assign]


def _inbox_forgets() -> None:
    """Event ids are written down, but repeats are let through."""
    record = applying._record

    async def everything(tx: Any, events: Sequence[Event]) -> list[Event]:
        await record(tx, events)
        return list(events)

    applying._record = everything


class _ByCursor:
    """A connection that reads the outbox as if ids became visible in their order."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._cursor = connection, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetch(self, statement: str, *values: Any) -> Any:
        rows = await self._connection.fetch(statement, *values)
        if statement != relay.READ:
            return rows
        return [row for row in rows if row["id"] > self._cursor]

    async def execute(self, statement: str, *values: Any) -> Any:
        if statement == relay.DELETE:
            self._cursor = max(self._cursor, *values[0])
        return await self._connection.execute(statement, *values)


def _relay_reads_by_cursor() -> None:
    connect = Relay._connect

    async def connected(self: Relay) -> Any:
        return _ByCursor(await connect(self))

    Relay._connect = connected  # type: ignore[method-assign]


PLANTS = {
    "ack-before-commit": Plant(
        "devices and callers are answered before their batch has committed", _ack_before_commit
    ),
    "delete-before-ack": Plant(
        "the relay deletes events before the broker has them", _relay_deletes_before_ack
    ),
    "no-inbox": Plant("an event that comes again takes effect again", _inbox_forgets),
    "id-cursor": Plant(
        "the relay never looks back behind the highest id that it sent", _relay_reads_by_cursor
    ),
}
