"""What is kept of a device and shown to people: seldom, with a reason, and never unnoticed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from services.command_queue import metrics, pins, scoping
from services.command_queue.control import By, audited
from services.command_queue.errors import NotFound, RevealRefused
from services.command_queue.settings import CommandQueueSettings
from services.command_queue.store import escrow as store
from shared.bus import outbox
from shared.db.pool import Connection, Pool, transaction
from shared.events import uuid7
from shared.events.commands import GuardAlarmed
from shared.runtime.clock import Clock
from shared.runtime.http import Reach
from shared.sealed import LocalCipher

_SHOWN: Final = 100
COUNTED: Final = timedelta(days=40)
"""Longer than any window."""


@dataclass(frozen=True, slots=True, repr=False)
class Revealed:
    kind: str
    value: str


class Escrow:
    """Reveals are counted by person: `reveals_of_actor`."""

    def __init__(
        self, pool: Pool, clock: Clock, cipher: LocalCipher, settings: CommandQueueSettings
    ) -> None:
        self._pool, self._clock, self._cipher, self._settings = pool, clock, cipher, settings

    async def of_device(self, device_id: UUID, reach: Reach) -> list[dict[str, Any]]:
        """What is kept, newest first, and never the secrets; raises NotFound."""
        async with transaction(self._pool) as tx:
            await scoping.must_see(tx, device_id, reach)
            return [dict(row) for row in await store.of_device(tx, device_id, _SHOWN)]

    async def reveal(self, device_id: UUID, secret_id: UUID, reach: Reach, by: By) -> Revealed:
        """Show one secret; it is on record before it is shown.

        Raises NotFound, RevealRefused (an alarm: somebody collects secrets) and SealError.
        """
        now = self._clock.now()
        async with transaction(self._pool) as tx:
            await scoping.must_see(tx, device_id, reach)
            if (kept := await store.get(tx, device_id, secret_id)) is None:
                raise NotFound("secret")
            value = pins.clear(self._cipher, kept)
            await store.take_turns(tx, by.actor)
            if refused := await self._over_budget(tx, by.actor):
                alarm = GuardAlarmed(
                    alarm_id=uuid7(now),
                    kind="refused",
                    actor=by.actor,
                    reason=f"Showing a secret: {refused}",
                    about=device_id,
                )
                await outbox.emit(tx, [alarm])
            else:
                await store.revealed(tx, uuid7(now), secret_id, by.actor, now)
                after = {
                    "kind": kept.kind,
                    "secret_id": str(secret_id),
                    "command_id": str(kept.command_id),
                }
                await outbox.emit(tx, [audited(by, "secret.reveal", str(device_id), after=after)])
        metrics.REVEALS.labels("refused" if refused else "shown").inc()
        if refused:
            raise RevealRefused(refused)
        return Revealed(kept.kind, value)

    async def _over_budget(self, tx: Connection, actor: str) -> str | None:
        windows = self._settings.reveals_of_actor
        spans = [one.length for one in windows]
        counts = await store.count(tx, actor, spans, self._clock.now())
        for window, spent in zip(windows, counts, strict=True):
            if spent >= window.least:
                return f"{spent} of {window.least} in {window.words} were shown to you already"
        return None
