"""One's own second factors, while signed in: more of them, fewer, never none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from services.console import access
from services.console.people import Person
from services.console.signing_in import SigningIn
from services.console.step_up import OWN
from services.console.store import accounts
from services.console.store import factors as store
from shared.db.pool import Connection, Pool, transaction
from shared.runtime import auditing
from shared.runtime.problems import Problem


class OwnFactors:
    """Every call but `accept_code` and `register` comes after a step-up; those need what the
    step-up gave out: a secret on offer, a challenge.
    """

    def __init__(self, pool: Pool, signing_in: SigningIn) -> None:
        self._pool, self._signing_in = pool, signing_in

    async def offer_code(self, person: Person) -> str:
        if person.sealed:
            raise Problem(409, "keys_only", "A sealed account is opened by keys alone.")
        return await self._signing_in.codes.offer(person.account_id)

    async def offered_code(self, person: Person) -> str | None:
        return await self._signing_in.codes.offered(person.account_id)

    async def accept_code(self, person: Person, code: str) -> None:
        """The app on offer takes the place of the one before."""
        async with transaction(self._pool) as tx:
            await accounts.lock(tx, person.account_id)
            if not await self._signing_in.codes.accept(tx, person.account_id, code):
                raise Problem(403, "code_wrong", "The code is wrong. Wait for the next and try it.")
            await self._record(tx, person, "factor.register", {"kind": "code"})

    async def key_options(self, person: Person) -> dict[str, Any]:
        keys = self._signing_in.keys
        return await keys.registration(
            person.session_id,
            person.account_id,
            person.name,
            person.email,
            resident=person.sealed,
        )

    async def register(self, person: Person, name: str, answer: Mapping[str, Any]) -> None:
        keys = self._signing_in.keys
        async with transaction(self._pool) as tx:
            await accounts.lock(tx, person.account_id)
            await keys.register(tx, person.session_id, person.account_id, name, answer)
            await self._record(tx, person, "factor.register", {"kind": "key", "name": name})

    async def remove_key(self, person: Person, passkey_id: UUID) -> None:
        async with transaction(self._pool) as tx:
            await accounts.lock(tx, person.account_id)
            name = await store.drop_key(tx, person.account_id, passkey_id)
            if name is None:
                raise Problem(404, "key_unknown", "You have no such key.")
            await self._not_the_last(tx, person)
            await self._record(tx, person, "factor.remove", {"kind": "key", "name": name})

    async def remove_code(self, person: Person) -> None:
        async with transaction(self._pool) as tx:
            await accounts.lock(tx, person.account_id)
            if not await store.drop_totp(tx, person.account_id):
                raise Problem(404, "code_unknown", "You have no authenticator app.")
            await self._not_the_last(tx, person)
            await self._record(tx, person, "factor.remove", {"kind": "code"})

    @staticmethod
    async def _not_the_last(tx: Connection, person: Person) -> None:
        if not await store.any_left(tx, person.account_id):
            raise Problem(409, "last_factor", "This is your only second factor: add another first.")

    @staticmethod
    async def _record(tx: Connection, person: Person, action: str, what: dict[str, Any]) -> None:
        after, before = (what, None) if action == "factor.register" else (None, what)
        await auditing.record(
            tx, person.caller, OWN, action, person.actor, before=before, after=after
        )
        await access.tell(tx, person.account_id)
