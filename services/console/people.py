"""Who somebody is and what they may do: read anew for each request, so a change counts at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from services.console.permissions import held_by
from services.console.store.sessions import Alarm, Granted, Known
from shared.runtime.http import Caller, Reach

_ACCOUNT = "account:"


@dataclass(frozen=True)
class Person:
    """Who asks for a page, proven by their session."""

    account_id: UUID
    session_id: UUID
    name: str
    email: str
    caller: Caller
    sealed: bool = False
    alarm: Alarm | None = None

    @property
    def actor(self) -> str:
        """As the audit of every service names them."""
        return self.caller.actor

    @property
    def via(self) -> str:
        return via_session(self.session_id)

    def may(self, permission: str) -> bool:
        """Whether it is held on all devices."""
        return self.caller.may(permission)

    def holds(self, permission: str) -> bool:
        """Whether it is held anywhere: what a menu asks."""
        return self.may(permission) or any(
            permission in held for held in self.caller.groups.values()
        )

    def require(self, permission: str) -> None:
        self.caller.require(permission)

    def reach(self, permission: str) -> Reach:
        return self.caller.reach(permission)


def via_session(session_id: UUID) -> str:
    """What tokens of a session are called by, and what revoking it names."""
    return f"session:{session_id}"


def actor_of(account_id: UUID) -> str:
    return f"{_ACCOUNT}{account_id}"


def account_of(actor: str) -> UUID | None:
    """The account that an actor is; None: it is none, but a service."""
    try:
        return UUID(actor.removeprefix(_ACCOUNT)) if actor.startswith(_ACCOUNT) else None
    except ValueError:
        return None


def person_of(known: Known, source: str | None) -> Person:
    everywhere, groups = rights_of(known.grants)
    caller = Caller(actor_of(known.account_id), everywhere, source, groups)
    return Person(
        known.account_id,
        known.session_id,
        known.name,
        known.email,
        caller,
        sealed=known.sealed,
        alarm=known.alarm,
    )


def rights_of(
    grants: Iterable[Granted],
) -> tuple[frozenset[str], dict[UUID, frozenset[str]]]:
    """What grants add up to: on all devices, and on each group what is not held everywhere."""
    everywhere: set[str] = set()
    groups: dict[UUID, set[str]] = {}
    for grant in grants:
        held = held_by(grant.role_id, built_in=grant.built_in, custom=grant.permissions)
        if grant.group_id is None:
            everywhere |= held
        else:
            groups.setdefault(grant.group_id, set()).update(held)
    return frozenset(everywhere), {
        group: frozenset(left) for group, held in groups.items() if (left := held - everywhere)
    }
