"""Which identities an account has: shown, linked by who may, taken away."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from services.console import access
from services.console.directory import WRITE, changing
from services.console.identity.providers import Providers
from services.console.people import Person, actor_of
from services.console.step_up import OWN
from services.console.store import accounts, sealed
from services.console.store import identities as store
from services.console.store import people as people_store
from services.console.store.identities import Identity
from shared.db.pool import Connection, Pool, transaction
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.problems import Problem


async def attach(
    tx: Connection,
    by: Caller,
    permission: str,
    account_id: UUID,
    who: tuple[str, str],
    now: datetime,
) -> None:
    """Let `who`, an issuer and its subject, sign in to the account; its row is held already."""
    if await sealed.is_sealed(tx, account_id):
        raise Problem(409, "keys_only", "A sealed account is opened by keys alone.")
    if not await store.link(tx, *who, account_id, now, by.actor):
        raise Problem(409, "identity_taken", "This identity belongs to an account already.")
    after, target = dict(zip(("issuer", "subject"), who, strict=True)), actor_of(account_id)
    await auditing.record(tx, by, permission, "identity.link", target, after=after)
    await access.tell(tx, account_id)


class Linking:
    """Every change comes after a step-up."""

    def __init__(self, pool: Pool, clock: Clock, providers: Providers) -> None:
        self._pool, self._clock, self._providers = pool, clock, providers

    async def of(self, account_id: UUID) -> list[Identity]:
        return await store.of(self._pool, account_id)

    async def link(self, person: Person, account_id: UUID, provider_id: UUID, subject: str) -> None:
        """Let this subject sign in to the account: only who holds all that the account holds."""
        provider = await self._providers.one(provider_id)
        async with transaction(self._pool) as tx:
            await changing(tx, person, account_id)
            who, now = (provider.issuer, subject), self._clock.now()
            await attach(tx, person.caller, WRITE, account_id, who, now)

    async def unlink(
        self, person: Person, account_id: UUID, provider_id: UUID, subject: str
    ) -> None:
        """Of somebody's account; they sign in again."""
        async with transaction(self._pool) as tx:
            await changing(tx, person, account_id)
            await self._unlink(tx, person, account_id, provider_id, subject, WRITE)
            await access.end_sessions(tx, account_id, self._clock.now())

    async def unlink_own(self, person: Person, provider_id: UUID, subject: str) -> None:
        """Of one's own, while there is another way in."""
        account_id = person.account_id
        async with transaction(self._pool) as tx:
            await accounts.lock(tx, account_id)
            await self._unlink(tx, person, account_id, provider_id, subject, OWN)
            account = await people_store.one(tx, account_id)
            has_password = account is not None and account.has_password
            if not has_password and not await store.of(tx, account_id):
                detail = "This is your only way in: link another identity first."
                raise Problem(409, "last_way_in", detail)

    async def _unlink(
        self,
        tx: Connection,
        person: Person,
        account_id: UUID,
        provider_id: UUID,
        subject: str,
        permission: str,
    ) -> None:
        if not await store.unlink(tx, account_id, provider_id, subject):
            raise Problem(404, "identity_unknown", "The account has no such identity.")
        provider = await self._providers.one(provider_id)
        before = {"issuer": provider.issuer, "subject": subject}
        target = actor_of(account_id)
        await auditing.record(
            tx, person.caller, permission, "identity.unlink", target, before=before
        )
        await access.tell(tx, account_id)
