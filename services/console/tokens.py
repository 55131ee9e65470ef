"""API tokens: for programs of somebody's, with less than they hold, exchanged for access tokens.

What a token may never do is left out when its access token is signed, whatever it was made with.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from services.console import access
from services.console.people import Person, actor_of, rights_of
from services.console.permissions import FOR_PEOPLE_ONLY, PERMISSIONS
from services.console.sessions import hashed
from services.console.store import accounts
from services.console.store import tokens as store
from services.console.store.tokens import Shown, Token
from services.console.throttling import Throttle
from shared.db.pool import Pool, transaction
from shared.events.base import uuid7
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.problems import Problem
from shared.runtime.tokens import Signer

__all__ = ["PREFIX", "WRITE", "Token", "Tokens"]

PREFIX = "mst_"
WRITE = "token.write"
LIFETIME = timedelta(minutes=5)
MOST, LONGEST_DAYS = 50, 366
_MAX_LENGTH = 100


class Tokens:
    def __init__(self, pool: Pool, clock: Clock, signer: Signer, throttle: Throttle) -> None:
        self._pool, self._clock = pool, clock
        self._signer, self._throttle = signer, throttle

    async def own(self, person: Person) -> list[Token]:
        return await store.of(self._pool, person.account_id, self._clock.now())

    async def mint(
        self,
        person: Person,
        name: str,
        permissions: Iterable[str],
        group_id: UUID | None,
        days: int,
    ) -> str:
        """The token, to be shown once. Nobody mints what they do not hold there."""
        wanted = frozenset(permissions)
        if not wanted or not wanted <= grantable(person, group_id):
            raise Problem(422, "permissions_not_held", "Choose from what you hold yourself.")
        secret, now = PREFIX + secrets.token_urlsafe(32), self._clock.now()
        token = Token(
            token_id=uuid7(now),
            name=name,
            permissions=sorted(wanted),
            group_id=group_id,
            made_at=now,
            expires_at=now + timedelta(days=days),
            used_at=None,
            used_from=None,
        )
        async with transaction(self._pool) as tx:
            await accounts.lock(tx, person.account_id)
            if len(await store.of(self._pool, person.account_id, now)) >= MOST:
                raise Problem(409, "tokens_full", f"You have {MOST} tokens: revoke one first.")
            await store.add(tx, token, hashed(secret), person.account_id)
            group = str(group_id) if group_id else None
            after = {"name": name, "permissions": token.permissions, "group": group, "days": days}
            target = f"token:{token.token_id}"
            await auditing.record(tx, person.caller, WRITE, "token.create", target, after=after)
        return secret

    async def revoke(self, person: Person, token_id: UUID) -> None:
        """One's own; no service takes access tokens made from it within a minute."""
        now, via = self._clock.now(), f"token:{token_id}"
        async with transaction(self._pool) as tx:
            name = await store.revoke(tx, person.account_id, token_id, now)
            if name is None:
                raise Problem(404, "token_unknown", "You have no such token.")
            await auditing.record(
                tx, person.caller, WRITE, "token.revoke", via, before={"name": name}
            )
            await access.revoke(tx, [via], now)

    async def exchange(self, token: str, audience: str, source: str | None) -> str:
        """An access token for one service, with what the token's owner still holds."""
        now = self._clock.now()
        ours = token.startswith(PREFIX) and len(token) <= _MAX_LENGTH
        shown = await store.find(self._pool, hashed(token), now) if ours else None
        if shown is None:
            await self._throttle.charge(PREFIX, source)
            detail = "The API token is wrong, revoked or over, or its owner is disabled."
            raise Problem(401, "api_token_refused", detail)
        await store.used(self._pool, shown.token_id, now, source)
        everywhere, groups = rights(shown, audience)
        return self._signer.access(
            actor_of(shown.account_id),
            audience,
            sorted(everywhere),
            min(LIFETIME, shown.expires_at - now),
            groups={group: sorted(held) for group, held in groups.items()},
            via=f"token:{shown.token_id}",
            source=source,
        )


def grantable(person: Person, group_id: UUID | None) -> frozenset[str]:
    """What somebody may put into a token."""
    there = person.caller.groups.get(group_id, frozenset()) if group_id else frozenset()
    return (person.caller.permissions | there) - FOR_PEOPLE_ONLY


def rights(shown: Shown, audience: str) -> tuple[frozenset[str], dict[UUID, frozenset[str]]]:
    """What is in the token, held by its owner now, of this service, and not for people only."""
    may = shown.permissions & frozenset(PERMISSIONS[audience]) - FOR_PEOPLE_ONLY
    everywhere, groups = rights_of(shown.grants)
    if shown.group_id is None:
        held = {group: left for group, has in groups.items() if (left := has & may)}
        return everywhere & may, held
    there = (everywhere | groups.get(shown.group_id, frozenset())) & may
    return frozenset(), {shown.group_id: there} if there else {}
