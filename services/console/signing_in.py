"""From a password to a session that counts: the second factor is never optional."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.console import access, alarms, metrics, passwords
from services.console.codes import Codes
from services.console.passkeys import Passkey, Passkeys
from services.console.passwords import Passwords
from services.console.people import actor_of
from services.console.sessions import Known, Sessions, Visit
from services.console.store import accounts
from services.console.throttling import Throttle
from shared.db.pool import Connection, Pool, transaction
from shared.runtime import auditing
from shared.runtime.http import Caller
from shared.runtime.problems import Problem

SIGN_IN = "sign_in"
"""What the audit names where a permission cannot be: nobody is anybody yet."""
_LONGEST_EMAIL = 254


@dataclass(frozen=True)
class Factors:
    """What an account has to prove itself with besides a password."""

    code: bool
    keys: list[Passkey]

    def __bool__(self) -> bool:
        return self.code or bool(self.keys)


class SigningIn:
    def __init__(
        self,
        pool: Pool,
        sessions: Sessions,
        passwords: Passwords,
        throttle: Throttle,
        codes: Codes,
        keys: Passkeys,
    ) -> None:
        self._pool, self._sessions, self._passwords = pool, sessions, passwords
        self._throttle, self.codes, self.keys = throttle, codes, keys

    async def password(self, email: str, password: str, visit: Visit) -> str:
        """The secret of a session that waits for its second factor.

        An unknown account, one without a password and a wrong password are refused alike, after
        the same work.
        """
        email = email.strip()[:_LONGEST_EMAIL]
        await self._throttle.charge(email, visit.source)
        claimed = await accounts.claimed(self._pool, email)
        kept = claimed.password_hash if claimed else None
        right = await self._passwords.is_right(password[: passwords.LONGEST], kept)
        if not right or claimed is None or kept is None:
            metrics.SIGN_INS.labels("refused").inc()
            raise Problem(401, "sign_in_refused", "The e-mail or the password is wrong.")
        await self._throttle.succeeded(email, visit.source)
        if self._passwords.is_outdated(kept):
            new = await self._passwords.hashed(password)
            await accounts.rehash(self._pool, claimed.account_id, kept, new)
        async with transaction(self._pool) as tx:
            return await self._sessions.begin(
                tx, claimed.account_id, "password", visit, proven=False
            )

    async def factors(self, account_id: UUID) -> Factors:
        code = await self.codes.is_set(account_id)
        return Factors(code, await self.keys.of(account_id))

    async def code(self, session: Known, code: str, source: str | None) -> str:
        """Prove the session by a code; its new secret."""
        what = f"factor:{session.account_id}"
        await self._throttle.charge(what, source)
        async with transaction(self._pool) as tx:
            right = await self.codes.spend(tx, session.account_id, code)
            secret = await self._proven(tx, session, "code", source) if right else None
        if secret is None:
            metrics.SIGN_INS.labels("refused").inc()
            raise Problem(403, "code_wrong", "The code is wrong, or was used. Wait for the next.")
        await self._throttle.succeeded(what, source)
        return secret

    async def key(self, session: Known, answer: Mapping[str, Any], source: str | None) -> str:
        """Prove the session by a WebAuthn key; its new secret."""
        async with transaction(self._pool) as tx:
            await self.keys.check(tx, session.session_id, session.account_id, SIGN_IN, answer)
            return await self._proven(tx, session, "key", source)

    async def first_code(self, session: Known, code: str, source: str | None) -> str:
        """Register the app on offer as the account's first factor, and prove the session by it."""
        await self._without_factors(session)
        if session.sealed:
            raise Problem(409, "keys_only", "A sealed account is opened by keys alone.")
        async with transaction(self._pool) as tx:
            await accounts.lock(tx, session.account_id)
            if not await self.codes.accept(tx, session.account_id, code):
                raise Problem(403, "code_wrong", "The code is wrong. Wait for the next and try it.")
            await self._registered(tx, session, "code", source)
            return await self._proven(tx, session, "code", source)

    async def first_key(
        self, session: Known, name: str, answer: Mapping[str, Any], source: str | None
    ) -> str:
        """Register a key as the account's first factor, and prove the session by it."""
        await self._without_factors(session)
        async with transaction(self._pool) as tx:
            await accounts.lock(tx, session.account_id)
            await self.keys.register(tx, session.session_id, session.account_id, name, answer)
            await self._registered(tx, session, "key", source)
            return await self._proven(tx, session, "key", source)

    async def _without_factors(self, session: Known) -> None:
        """Who knows the password alone must not add a factor beside those that there are."""
        if await self.factors(session.account_id):
            raise Problem(409, "factor_there", "Sign in with the second factor that you have.")

    async def _registered(
        self, tx: Connection, session: Known, kind: str, source: str | None
    ) -> None:
        who = Caller(actor_of(session.account_id), frozenset(), source)
        await auditing.record(
            tx, who, SIGN_IN, "factor.register", who.actor, after={"kind": kind, "first": True}
        )
        await access.tell(tx, session.account_id)

    async def _proven(self, tx: Connection, session: Known, by: str, source: str | None) -> str:
        secret = await self._sessions.prove(tx, session, f"{session.method}+{by}")
        who = Caller(actor_of(session.account_id), frozenset(), source)
        target = f"session:{session.session_id}"
        await auditing.record(tx, who, SIGN_IN, "session.begin", target, after={"by": by})
        if session.sealed:
            now = self._sessions.now()
            await alarms.opened(tx, session.account_id, session.name, source, now)
        metrics.SIGN_INS.labels("done").inc()
        return secret
