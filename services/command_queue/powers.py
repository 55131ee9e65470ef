"""New power is told when it is heard of, and can be vetoed before it counts (decision 58)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.command_queue import metrics
from services.command_queue.control import By, audited
from services.command_queue.errors import NotFound
from services.command_queue.settings import CommandQueueSettings
from services.command_queue.store import approvers as store
from services.command_queue.store.approvers import FIRST_HOUR, Gained, Young
from shared.bus import outbox
from shared.db.pool import Connection, Pool, transaction
from shared.events import uuid7
from shared.events.access import AccountState
from shared.events.commands import GuardAlarmed
from shared.runtime.clock import Clock

APPROVE, UNFREEZE = "command.approve", "guard.unfreeze"
_WORDS: Final[Mapping[str, str]] = {
    APPROVE: "the right to approve",
    UNFREEZE: "the right to lift freezes",
    "key": "a new key",
    "sign-in": "another way to sign in",
}


@dataclass(frozen=True, slots=True)
class Power:
    """What an account got lately, and from when on the last of it counts."""

    account_id: UUID
    name: str
    what: list[str]
    counts_from: datetime


class Powers:
    """What is young, and taking it away."""

    def __init__(self, pool: Pool, clock: Clock, settings: CommandQueueSettings) -> None:
        self._pool, self._clock, self._age = pool, clock, settings.new_power_waits

    async def young(self) -> list[Power]:
        """Accounts with power that does not count yet."""
        async with transaction(self._pool) as tx:
            found = await store.young(tx, None, self._clock.now() - self._age)
        accounts: dict[UUID, list[Young]] = {}
        for one in found:
            accounts.setdefault(one.account_id, []).append(one)
        return [self._power(same) for same in accounts.values()]

    def _power(self, same: Sequence[Young]) -> Power:
        """All of one account, by age."""
        return Power(
            account_id=same[0].account_id,
            name=same[0].name,
            what=[_WORDS.get(one.what, one.what) for one in same],
            counts_from=same[-1].since + self._age,
        )

    async def veto(self, account_id: UUID, by: By) -> Power:
        """From this answer on what the account got lately is nothing; raises NotFound."""
        now = self._clock.now()
        async with transaction(self._pool) as tx:
            found = await store.young(tx, account_id, now - self._age)
            if not found:
                raise NotFound("new power")
            await store.veto(tx, account_id, now - self._age, now)
            power = self._power(found)
            what = ", ".join(power.what)
            after: dict[str, Any] = {"vetoed": power.what}
            alarm = GuardAlarmed(
                alarm_id=uuid7(),
                kind="vetoed",
                actor=by.actor,
                reason=f"{power.name} does not get {what}: {by.reason}"[:4000],
                account_id=account_id,
            )
            target = f"account:{account_id}"
            await outbox.emit(tx, [audited(by, "guard.veto", target, after=after), alarm])
        metrics.VETOED.inc()
        return power


async def announce(
    tx: Connection, event: AccountState, gained: Gained, counts_from: datetime
) -> None:
    """Tell of power that is new. Who holds no right has none, and who is the first was set up."""
    if not (gained.rights or gained.keys or gained.sign_in):
        return
    account = await store.get(tx, event.account_id, APPROVE, UNFREEZE)
    if account is None or account.disabled or not account.rights:
        return
    if account.founder and not gained.sign_in and event.meta.time <= account.heard_at + FIRST_HOUR:
        return
    what = list(gained.rights) + ["key"] * bool(gained.keys) + ["sign-in"] * gained.sign_in
    alarm = GuardAlarmed(
        alarm_id=uuid7(),
        kind="empowered",
        actor=f"account:{event.account_id}",
        reason=f"{event.name} gets {', '.join(_WORDS[one] for one in what)}",
        account_id=event.account_id,
        counts_from=counts_from,
    )
    await outbox.emit(tx, [alarm.because(event)])
