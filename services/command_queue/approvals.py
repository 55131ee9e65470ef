"""People decide about what is held, each with a key of their own (decision 48).

An approval is verified when it is given, and again when the command begins: whatever changed in
between (command, targets, the approver's right, key or age) takes it away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.command_queue import approvers, budgets, deciding, holding
from services.command_queue.approvers import APPROVE, Standing
from services.command_queue.assertions import Assertions
from services.command_queue.budgets import Hold, Weight
from services.command_queue.control import By, audited
from services.command_queue.errors import NotFound
from services.command_queue.settings import CommandQueueSettings
from services.command_queue.store import approvals as store
from services.command_queue.store import commands, scopes
from services.command_queue.store.approvals import Approval, Held
from shared.bus import outbox
from shared.db.pool import Connection, Pool, Record, transaction
from shared.events import Event, uuid7
from shared.events.commands import CommandCancelled, CommandClass, CommandReleased, GuardAlarmed
from shared.runtime.clock import Clock
from shared.runtime.http import Reach
from shared.sealed import LocalCipher

_LAST: Final = UUID(int=(1 << 128) - 1)


@dataclass(frozen=True, slots=True)
class Offer:
    """What an approver is asked: `options` go to the browser where they may approve."""

    held: Held
    digest: bytes
    expires_at: datetime
    given: list[Approval]
    why_not: str | None
    options: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Given:
    """What an approval led to."""

    released: bool
    given: int
    needs: int
    not_before: datetime


class Approvals:
    def __init__(
        self, pool: Pool, clock: Clock, cipher: LocalCipher, settings: CommandQueueSettings
    ) -> None:
        self._pool, self._clock, self._cipher, self._settings = pool, clock, cipher, settings
        self._assertions = Assertions(settings.console_address)

    async def waiting(self, reach: Reach, before: UUID | None, limit: int) -> list[Record]:
        """Commands that wait for people, newest first."""
        async with transaction(self._pool) as tx:
            return await store.waiting(tx, self._clock.now(), reach, before or _LAST, limit)

    async def offer(self, command_id: UUID, reach: Reach, actor: str) -> Offer:
        """What would be approved, in words and as the digest that a key signs; raises NotFound."""
        expires_at = deciding.offered_until(self._clock.now())
        async with transaction(self._pool) as tx:
            held = await self._held(tx, command_id, reach)
            standing = await self._standing(tx, held, approvers.account_of(actor))
            digest = holding.digest(held, expires_at)
            options = None
            if standing.why_not is None:
                options = self._assertions.options(digest, standing.keys)
            given = await self._counting(tx, held)
            return Offer(held, digest, expires_at, given, standing.why_not, options)

    async def approve(
        self,
        command_id: UUID,
        reach: Reach,
        by: By,
        expires_at: datetime,
        answer: Mapping[str, Any],
    ) -> Given:
        """Take an approver's word; the last that is needed lets the command run.

        Raises NotFound and ApprovalRefused.
        """
        now = self._clock.now()
        expires_at = deciding.still(expires_at, now)
        async with transaction(self._pool) as tx:
            held = await self._held(tx, command_id, reach)
            standing = await self._standing(tx, held, approvers.account_of(by.actor))
            digest = holding.digest(held, expires_at)
            word = await deciding.prove(
                tx, self._assertions, standing, digest, answer, now, expires_at
            )
            await store.approve(tx, command_id, word)
            after = {"digest": digest.hex(), "expires_at": expires_at.isoformat()}
            if standing.by_set_up:
                after["aged_by"] = "set-up"
            await outbox.emit(tx, [audited(by, "command.approve", str(command_id), after=after)])
            released = await self._release(tx, held, by)
            held = held if released else await store.held(tx, command_id) or held
            given = await self._counting(tx, held)
            return Given(released, len(given), held.needs or 0, held.not_before)

    async def reject(self, command_id: UUID, reach: Reach, by: By) -> bool:
        """Say no: the command ends. Taking power away waits for nothing and needs no key."""
        async with transaction(self._pool) as tx:
            await self._held(tx, command_id, reach)
            why = f"refused: {by.reason}"
            done = await commands.cancel(tx, command_id, self._clock.now(), by.actor, why)
            told = CommandCancelled(command_id=command_id, actor=by.actor, reason=why[:300])
            entry = audited(
                by,
                "command.reject",
                str(command_id),
                before={"state": "held"},
                after={"state": "cancelled"},
            )
            await outbox.emit(tx, [told, entry])
        return done

    async def release_ripe(self) -> None:
        """Let run what was approved and had to wait."""
        async with transaction(self._pool) as tx:
            ripe = await store.ripe(tx, self._clock.now())
        by = By("job:approvals", APPROVE, "approved, and the wait is over")
        for command_id in ripe:
            async with transaction(self._pool) as tx:
                if held := await store.held(tx, command_id):
                    await self._release(tx, held, by)

    async def _held(self, tx: Connection, command_id: UUID, reach: Reach) -> Held:
        """The command, locked: decisions about one come in turn. Beyond reach it does not exist."""
        held = await store.held(tx, command_id)
        if held is None or held.expires_at <= self._clock.now():
            raise NotFound("held command")
        if await scopes.outside(tx, held.device_ids, reach):
            raise NotFound("held command")
        return held

    async def _standing(self, tx: Connection, held: Held, account_id: UUID | None) -> Standing:
        age, now = self._settings.new_power_waits, self._clock.now()
        standing = await approvers.standing(tx, account_id, APPROVE, now, age)
        why = standing.why_not
        if held.needs is None:
            why = f"Nobody can let this run: {held.hold_reason}."
        elif account_id == approvers.account_of(held.actor):
            why = "Who asked for it cannot approve it."
        elif why is None and await scopes.outside(tx, held.device_ids, standing.reach):
            why = "Your right does not reach all of its devices."
        return Standing(standing.account, standing.keys, standing.reach, why, standing.by_set_up)

    async def _counting(self, tx: Connection, held: Held) -> list[Approval]:
        """The approvals that count now: of this very command, by people who still may."""
        now, found = self._clock.now(), []
        for one in await store.of(tx, held.command_id):
            digest = holding.digest(held, one.expires_at)
            if one.expires_at <= now or one.digest != digest:
                continue
            standing = await self._standing(tx, held, one.account_id)
            if standing.why_not is None and self._assertions.holds(digest, standing.keys, one):
                found.append(one)
        return found

    async def _release(self, tx: Connection, held: Held, by: By) -> bool:
        """Let it run if all that it needs is there at this moment."""
        now = self._clock.now()
        given = await self._counting(tx, held)
        if held.needs is None or len(given) < held.needs or now < held.not_before:
            return False
        if why := await holding.changed(tx, held, self._cipher):
            await outbox.emit(tx, [_alarm(held, why)])
            return False
        weight = Weight(
            held.command_id, CommandClass(held.command_class), held.target_count, held.actor
        )
        over = await budgets.judge_approved(tx, weight, self._settings, now)
        if over is not None and held.needs < budgets.ALL_NEED:
            await self._escalate(tx, held, over, now)
            return False
        if not await store.release(tx, held.command_id):
            return False
        await budgets.charge(tx, [weight], now)
        names = [f"account:{one.account_id}" for one in given]
        told = CommandReleased(command_id=held.command_id, approvers=names, released_at=now)
        events: list[Event] = [told.along(held.correlation_id, held.traceparent)]
        after = {"approvers": names, "targets": held.target_count}
        events.append(audited(by, "command.release", str(held.command_id), after=after))
        await outbox.emit(tx, events)
        return True

    async def _escalate(self, tx: Connection, held: Held, over: Hold, now: datetime) -> None:
        """Others spent everybody's budget meanwhile: one approver is not enough any more."""
        until = now + over.wait
        await store.escalate(tx, held.command_id, over.why, budgets.ALL_NEED, until, over.reason)
        await outbox.emit(tx, [_alarm(held, over.reason)])


def _alarm(held: Held, reason: str) -> Event:
    alarm = GuardAlarmed(
        alarm_id=uuid7(),
        kind="held",
        actor=held.actor,
        reason=reason,
        command_id=held.command_id,
        command_class=CommandClass(held.command_class),
        target_count=held.target_count,
    )
    return alarm.along(held.correlation_id, held.traceparent)
