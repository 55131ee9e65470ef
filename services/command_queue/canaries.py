"""A wide change goes to a few devices first, and then waits for a person (decision 59)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.command_queue.control import By, audited
from services.command_queue.errors import NotFound, NotYet
from services.command_queue.store import canaries as store
from services.command_queue.store import charges, commands
from services.command_queue.store.canaries import Canary
from services.command_queue.store.targets import Chunk, Frozen
from shared.bus import outbox
from shared.db.pool import Connection, Pool, transaction
from shared.events.commands import CommandContinued
from shared.runtime.clock import Clock
from shared.runtime.http import Reach

_MANY: Final = 100
_SHARE: Final = 0.01
_FEW: Final = 10
"""Of a small fleet one in a hundred would be a canary as large as the change."""
_LEAST, _MOST = 5, 50
"""Devices of a canary: one in a hundred, no fewer and no more than these."""
_SEEN: Final = timedelta(days=7)
_TOGETHER: Final = timedelta(days=1)
"""Small commands of one content within it are one change."""
_STANDS: Final = timedelta(days=7)
"""How long a change that somebody let go on needs no canary again."""
PATIENCE: Final = timedelta(days=1)
"""After that a person may go on although no device has answered."""


@dataclass(frozen=True, slots=True)
class Parted:
    """Target lists as they are expanded now, and of wide changes how many devices are first."""

    lists: list[Frozen]
    first: dict[UUID, int]


def wide(fleet: int) -> int:
    """So many targets are changed at once, and no more."""
    return min(_MANY, max(int(_SHARE * fleet), _FEW))


async def part(
    tx: Connection, asked: Sequence[tuple[Frozen, bytes | None]], now: datetime
) -> Parted:
    """Park what waits behind the canaries of wide changes.

    With each list comes the digest of what is changed; None: nothing is.
    """
    parted = Parted([], {})
    for of, content in asked:
        if content is None or not await _is_wide(tx, of, content, now):
            parted.lists.append(of)
            continue
        devices = sorted({device for one in of.chunks for device in one.device_ids})
        most = min(max(int(_SHARE * len(devices)), _LEAST), _MOST)
        chosen = await store.choose(tx, of.command_id, devices, now, now - _SEEN, most)
        first, rest = _cut(of.chunks, chosen)
        parted.lists.append(replace(of, chunks=first))
        if rest:
            await store.begin(tx, replace(of, chunks=rest), content, sorted(chosen), now)
            parted.first[of.command_id] = len(chosen)
    return parted


async def _is_wide(tx: Connection, of: Frozen, content: bytes, now: datetime) -> bool:
    """By itself, or with what was changed alike lately; who charged holds off all others."""
    count = sum(len(one.device_ids) for one in of.chunks)
    alike = await store.lately(tx, content, now - _TOGETHER)
    await store.note(tx, of.command_id, content, count, now)
    if count + alike <= wide(await charges.fleet(tx)):
        return False
    return not await store.went_on(tx, content, now - _STANDS)


def _cut(chunks: Sequence[Chunk], chosen: set[UUID]) -> tuple[list[Chunk], list[Chunk]]:
    """The chunks of the chosen devices and those of the others, numbered through."""
    first, rest = (
        [
            _some(chunk, kept)
            for chunk in chunks
            if (kept := [at for at, of in enumerate(chunk.device_ids) if (of in chosen) is wanted])
        ]
        for wanted in (True, False)
    )
    numbered = [replace(one, chunk=number) for number, one in enumerate([*first, *rest])]
    return numbered[: len(first)], numbered[len(first) :]


def _some(chunk: Chunk, kept: Sequence[int]) -> Chunk:
    channels = chunk.channel_ids and [chunk.channel_ids[at] for at in kept]
    bodies = chunk.bodies and [chunk.bodies[at] for at in kept]
    return Chunk(chunk.chunk, [chunk.device_ids[at] for at in kept], channels, bodies)


class Canaries:
    """What waits behind a canary, and a person's going on. Stopping is cancelling."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def of(self, command_id: UUID) -> Canary | None:
        async with transaction(self._pool) as tx:
            return await store.get(tx, command_id)

    def why_not(self, canary: Canary) -> str | None:
        """Why nobody can let it go on now."""
        if canary.continued_at is not None:
            return "It goes on already."
        if canary.state != "active":
            return "The command is held, or over."
        waited = self._clock.now() - canary.begun_at
        if canary.device_ids and not canary.answered and waited < PATIENCE:
            return "None of the first devices has answered yet."
        return None

    async def go_on(self, command_id: UUID, reach: Reach, by: By) -> int:
        """Let the rest have it; how many. Raises NotFound and NotYet."""
        async with transaction(self._pool) as tx:
            command = await commands.get(tx, command_id, reach)
            canary = await store.get(tx, command_id)
            if command is None or canary is None:
                raise NotFound("canary")
            if why := self.why_not(canary):
                raise NotYet(why)
            rest = await store.go_on(tx, command_id, self._clock.now(), by.actor)
            if rest is None:
                raise NotYet("It goes on already, or is over.")
            told = CommandContinued(
                command_id=command_id, actor=by.actor, answered=canary.answered, targets=rest
            )
            after = {"answered": canary.answered, "targets": rest}
            audit = audited(by, "command.continue", str(command_id), after=after)
            await outbox.emit(tx, [told, audit])
        return rest
