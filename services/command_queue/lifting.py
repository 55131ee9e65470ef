"""Ending a freeze: two people with keys, each verified like an approval of a command (decision 49).

A thief who could lift a freeze would only be slowed down by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.command_queue import approvers, deciding, metrics
from services.command_queue.approvers import UNFREEZE, Standing
from services.command_queue.assertions import Assertions, digest_of
from services.command_queue.control import By, audited
from services.command_queue.errors import NotFound
from services.command_queue.settings import CommandQueueSettings
from services.command_queue.store import approvals as store
from services.command_queue.store import freezes
from services.command_queue.store.approvals import Approval
from shared.bus import outbox
from shared.db.pool import Connection, Pool, Record, transaction
from shared.events import Event, uuid7
from shared.events.commands import GuardAlarmed
from shared.runtime.clock import Clock

NEEDS: Final = 2
_PURPOSE: Final = "lift freeze"


@dataclass(frozen=True, slots=True)
class Offer:
    """What is asked of somebody who would lift it: `options` go to the browser, if they may."""

    freeze: Record
    digest: bytes
    expires_at: datetime
    given: list[Approval]
    why_not: str | None
    options: dict[str, Any] | None


class Lifting:
    def __init__(self, pool: Pool, clock: Clock, settings: CommandQueueSettings) -> None:
        self._pool, self._clock, self._age = pool, clock, settings.new_power_waits
        self._assertions = Assertions(settings.console_address)

    async def offer(self, freeze_id: UUID, actor: str) -> Offer:
        """What would be lifted, in words and as the digest that a key signs; raises NotFound."""
        expires_at = deciding.offered_until(self._clock.now())
        async with transaction(self._pool) as tx:
            freeze = await _standing_one(tx, freeze_id)
            standing = await self._standing(tx, approvers.account_of(actor))
            digest = _digest(freeze, expires_at)
            options = None
            if standing.why_not is None:
                options = self._assertions.options(digest, standing.keys)
            given = await self._counting(tx, freeze)
            return Offer(freeze, digest, expires_at, given, standing.why_not, options)

    async def approve(
        self, freeze_id: UUID, by: By, expires_at: datetime, answer: Mapping[str, Any]
    ) -> tuple[bool, int]:
        """Take a person's word; the second lifts it. Returns whether it did, and how many count.

        Devices come for what waited when they are woken again, or by themselves. Raises NotFound
        and ApprovalRefused.
        """
        now = self._clock.now()
        expires_at = deciding.still(expires_at, now)
        async with transaction(self._pool) as tx:
            freeze = await _standing_one(tx, freeze_id)
            standing = await self._standing(tx, approvers.account_of(by.actor))
            digest = _digest(freeze, expires_at)
            word = await deciding.prove(
                tx, self._assertions, standing, digest, answer, now, expires_at
            )
            await store.approve(tx, freeze_id, word)
            given = await self._counting(tx, freeze)
            after: dict[str, Any] = {"digest": digest.hex(), "given": len(given), "needs": NEEDS}
            if standing.by_set_up:
                after["aged_by"] = "set-up"
            events: list[Event] = [audited(by, "guard.unfreeze", str(freeze_id), after=after)]
            lifted = len(given) >= NEEDS and await freezes.lift(tx, freeze_id, now, by.actor)
            if lifted:
                names = [f"account:{one.account_id}" for one in given]
                done = audited(by, "guard.lifted", str(freeze_id), after={"approvers": names})
                events += [done, _alarm(freeze, by)]
            await outbox.emit(tx, events)
        if lifted:
            metrics.FROZEN.labels("lifted").inc()
        return lifted, len(given)

    async def _standing(self, tx: Connection, account_id: UUID | None) -> Standing:
        now = self._clock.now()
        found = await approvers.standing(tx, account_id, UNFREEZE, now, self._age)
        if found.why_not is None and found.reach is not None:
            why = f"A freeze is everybody's: this needs {UNFREEZE} on all devices."
            return Standing(found.account, [], found.reach, why)
        return found

    async def _counting(self, tx: Connection, freeze: Record) -> list[Approval]:
        """The approvals that count now: of this very freeze, by people who still may."""
        now, found = self._clock.now(), []
        for one in await store.of(tx, freeze["freeze_id"]):
            digest = _digest(freeze, one.expires_at)
            if one.expires_at <= now or one.digest != digest:
                continue
            standing = await self._standing(tx, one.account_id)
            if standing.why_not is None and self._assertions.holds(digest, standing.keys, one):
                found.append(one)
        return found


async def _standing_one(tx: Connection, freeze_id: UUID) -> Record:
    freeze = await freezes.standing_one(tx, freeze_id)
    if freeze is None:
        raise NotFound("freeze")
    return freeze


def _digest(freeze: Record, expires_at: datetime) -> bytes:
    subject = {name: value and str(value) for name, value in freeze.items()}
    return digest_of(_PURPOSE, {**subject, "lift_by": int(expires_at.timestamp())})


def _alarm(freeze: Record, by: By) -> Event:
    return GuardAlarmed(
        alarm_id=uuid7(),
        kind="lifted",
        actor=by.actor,
        reason=f"The freeze was lifted: {freeze['reason']}"[:300],
        command_class=freeze["command_class"],
    )
