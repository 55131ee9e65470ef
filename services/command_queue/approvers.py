"""Who may approve: a person with the right, a key, and an age. New power waits three days.

Ages count from what the console says or from when this service heard of it, whichever is later: a
console in wrong hands cannot make an approver of today one of last year.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.command_queue import powers
from services.command_queue.budgets import Hold, Weight
from services.command_queue.settings import CommandQueueSettings
from services.command_queue.store import approvers as store
from services.command_queue.store.approvers import Account, Key, Told
from shared.bus.handlers import Handler
from shared.db.pool import Connection
from shared.events.access import AccountState
from shared.runtime.clock import Clock
from shared.runtime.http import Reach

APPROVE, UNFREEZE = powers.APPROVE, powers.UNFREEZE
_KEPT: Final = (APPROVE, UNFREEZE)
_OF_NEWCOMERS: Final = 2


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands to a decision: `why_not` is None where it may take it with these keys.

    `by_set_up`: only being the set-up owner makes it old enough.
    """

    account: Account | None
    keys: Sequence[Key]
    reach: Reach
    why_not: str | None
    by_set_up: bool = False


def handler(clock: Clock, age: timedelta) -> Handler:
    """Return the handler of AccountState: taken over, and news of power told (decision 58)."""

    async def handle(tx: Connection, events: Sequence[AccountState]) -> None:
        for event in events:
            gained = await store.replace(tx, _told(event), clock.now())
            if gained is not None:
                await powers.announce(tx, event, gained, clock.now() + age)

    return handle


def _told(event: AccountState) -> Told:
    return Told(
        account_id=event.account_id,
        sequence=event.meta.sequence,
        name=event.name,
        disabled=event.disabled,
        created_at=event.created_at,
        reset_at=_latest([event.reset_at, *(one.since for one in event.identities)]),
        founder=event.set_up,
        rights=[
            (permission, role.group_id, role.since)
            for role in event.roles
            for permission in role.permissions
            if permission in _KEPT
        ],
        keys=[(key.credential_id, key.public_key, key.since) for key in event.keys],
    )


def account_of(actor: str) -> UUID | None:
    """The person's account, where the actor is one."""
    kind, _, name = actor.partition(":")
    try:
        return UUID(name) if kind == "account" else None
    except ValueError:
        return None


async def standing(
    tx: Connection, account_id: UUID | None, permission: str, now: datetime, age: timedelta
) -> Standing:
    """Whether this account may decide now, and by which keys; all of it aged."""
    account = account_id and await store.get(tx, account_id, permission)
    if not account:
        return Standing(None, [], [], "Only people with an account decide, with a key of theirs.")
    if why := _never(account, permission):
        return _no(account, why)
    before = now - age
    rights = [one for one in account.rights if max(one.since, one.heard_at) <= before]
    keys = [one for one in account.keys if max(one.since, one.heard_at) <= before]
    itself = _latest([account.created_at, account.reset_at, account.renewed_at])
    aged = bool(rights and keys) and itself is not None and itself <= before
    by_set_up = not aged and account.founder
    if by_set_up:
        rights = list(account.rights)
        # Whatever the console says of it now: an account is made once.
        first = min(account.created_at, account.heard_at) + store.FIRST_HOUR
        keys = [one for one in account.keys if max(one.since, one.heard_at) <= first] or keys
        renewed = _latest([account.reset_at, account.renewed_at])
        aged = bool(keys) and (renewed is None or renewed <= before)
    if not aged:
        return _no(
            account,
            f"The youngest of the role, the key, the account and its last reset must be "
            f"{int(age.total_seconds() // 3600)} hours old.",
        )
    reach = None if any(one.group_id is None for one in rights) else _groups(rights)
    return Standing(account, keys, reach, None, by_set_up)


async def of_newcomers(
    tx: Connection,
    holds: Mapping[UUID, Hold],
    weights: Mapping[UUID, Weight],
    now: datetime,
    settings: CommandQueueSettings,
) -> dict[UUID, Hold]:
    """What somebody new asks for takes two approvers: whoever can make accounts could else ask by
    one and approve by another.
    """
    accounts = {one: account_of(weights[one].actor) for one in holds}
    asked = {account for account in accounts.values() if account is not None}
    old = await store.old_ones(tx, asked, now - settings.new_power_waits) if asked else set()
    return {
        one: hold
        if hold.needs is None or accounts[one] is None or accounts[one] in old
        else replace(
            hold,
            needs=max(hold.needs, _OF_NEWCOMERS),
            reason=f"{hold.reason}; who asks has been here for less than three days",
        )
        for one, hold in holds.items()
    }


def _never(account: Account, permission: str) -> str | None:
    """What no waiting helps against."""
    if account.disabled:
        return "This account is disabled."
    if account.vetoed_at is not None:
        return "How this account's person comes in was vetoed: it has to be reset."
    if not account.rights:
        return f"This needs the permission {permission}."
    if not account.keys:
        return "Register a security key or passkey: codes and passwords do not count."
    return None


def _no(account: Account, why: str) -> Standing:
    return Standing(account, [], [], why)


def _groups(rights: Iterable[store.Right]) -> list[UUID]:
    return sorted({one.group_id for one in rights if one.group_id is not None})


def _latest(times: Iterable[datetime | None]) -> datetime | None:
    return max((one for one in times if one is not None), default=None)
