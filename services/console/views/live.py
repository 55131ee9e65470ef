"""Telling open pages which devices changed: NOTIFY after commits, LISTEN in web processes.

A notification is for many commits. It names devices, or nothing when they were too many to name;
whoever hears it reads the rows again. One that is lost costs a page its freshness until the next,
never its truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from functools import partial
from uuid import UUID

import asyncpg

from shared.db.pool import Connection, Pool, after_commit, is_transient

log = logging.getLogger(__name__)

CHANNEL = "muster_console_live"
EVERY_SECONDS = 0.1
NAMED = 200
"""More devices than this are not named: a notification holds 8,000 bytes."""
AUDIT = UUID(int=1)
"""Stands among the devices for the audit, of which other pages need no news."""
NEWCOMERS = UUID(int=2)
"""Stands among the devices for those that no list shows yet."""
_RECONNECT_SECONDS = 1.0
NOTIFY = "SELECT pg_notify($1, $2)"

_announcers: set[Announcer] = set()


def changed(tx: Connection, device_ids: Iterable[UUID]) -> None:
    """Have the pages told that show these devices, once `tx` has committed."""
    after_commit(tx, partial(_announce, frozenset(device_ids)))


def _announce(device_ids: frozenset[UUID]) -> None:
    for announcer in list(_announcers):
        announcer.add(device_ids)


class Announcer:
    """Sends what changed to every web process, at most ten times a second."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._changed: set[UUID] = set()
        self._wanted = asyncio.Event()

    def add(self, device_ids: Collection[UUID]) -> None:
        if len(self._changed) <= NAMED:
            self._changed.update(device_ids)
        self._wanted.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Announce for the length of a block what this process commits."""
        _announcers.add(self)
        task = asyncio.create_task(self._run(), name="console:announcer")
        try:
            yield
        finally:
            _announcers.discard(self)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            changed, self._changed = self._changed, set()
            named = sorted(str(one) for one in changed) if len(changed) <= NAMED else []
            try:
                await self._pool.execute(NOTIFY, CHANNEL, " ".join(named))
            except Exception as error:
                if not is_transient(error):
                    raise
                log.debug("open pages were not told", exc_info=error)
            await asyncio.sleep(EVERY_SECONDS)


class Subscription:
    """What an open page waits for: news of some devices, or of any."""

    def __init__(self, device_ids: frozenset[UUID] | None) -> None:
        self._device_ids = device_ids
        self._news = asyncio.Event()
        self._changed: set[UUID] = set()
        self._any = False

    def tell(self, changed: frozenset[UUID]) -> None:
        """Note what changed; an empty set: anything may have."""
        mine = changed if self._device_ids is None else changed & self._device_ids
        if changed and not mine:
            return
        self._any = self._any or not changed
        if len(self._changed) <= NAMED:
            self._changed |= mine
        self._news.set()

    async def changes(self, seconds: float) -> frozenset[UUID] | None:
        """What changed since the last call; an empty set: anything may have. None: nothing did."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return None
        self._news.clear()
        changed, self._changed = frozenset(self._changed), set()
        everything, self._any = self._any or len(changed) > NAMED, False
        return frozenset() if everything else changed


class Hub:
    """Hears what changed, on one connection a process, and passes it on to open pages."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._subscriptions: set[Subscription] = set()
        self._wanted = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen for the length of a block, from the first page that asks on."""
        task = asyncio.create_task(self._run(), name="console:hub")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @contextlib.contextmanager
    def subscribed(self, device_ids: Collection[UUID] | None) -> Iterator[Subscription]:
        """News of these devices, or of all, for the length of a block."""
        one = Subscription(None if device_ids is None else frozenset(device_ids))
        self._subscriptions.add(one)
        self._wanted.set()
        try:
            yield one
        finally:
            self._subscriptions.discard(one)

    async def _run(self) -> None:
        await self._wanted.wait()
        while True:
            try:
                await self._listen()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.debug("open pages hear nothing for a moment", exc_info=error)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        """Until the connection ends. What was missed before it began may be anything."""
        ended = asyncio.Event()
        connection = await asyncpg.connect(
            self._dsn, timeout=5, server_settings={"application_name": "console:live"}
        )
        try:
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(CHANNEL, self._heard)
            self._tell(frozenset())
            await ended.wait()
        finally:
            connection.terminate()

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._tell(frozenset(UUID(one) for one in str(payload).split()))

    def _tell(self, changed: frozenset[UUID]) -> None:
        for one in list(self._subscriptions):
            one.tell(changed)
