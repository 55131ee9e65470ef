"""One's own password: changed by who knows the old one and stepped up; other sessions end."""

from __future__ import annotations

from uuid import UUID

from services.console import access, passwords
from services.console.passwords import Passwords
from services.console.people import Person
from services.console.sessions import Sessions
from services.console.step_up import OWN
from services.console.store import accounts
from services.console.throttling import Throttle
from shared.db.pool import Pool, transaction
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.problems import Problem


class OwnPassword:
    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        passwords: Passwords,
        sessions: Sessions,
        throttle: Throttle,
    ) -> None:
        self._pool, self._clock, self._passwords = pool, clock, passwords
        self._sessions, self._throttle = sessions, throttle

    async def is_set(self, account_id: UUID) -> bool:
        return await accounts.password(self._pool, account_id) is not None

    async def check(self, person: Person, old: str, new: str) -> str:
        """The kept hash of the old one, if it is right and the new one is good; raises Problem.

        Who signs in without a password gets none this way: their company takes them in and out.
        """
        kept = await accounts.password(self._pool, person.account_id)
        if kept is None:
            detail = "You sign in without a password. Ask for a link if you need one."
            raise Problem(409, "no_password", detail)
        what = f"password:{person.account_id}"
        await self._throttle.charge(what, person.caller.source)
        if not await self._passwords.is_right(old[: passwords.LONGEST], kept):
            raise Problem(403, "password_wrong", "The old password is wrong. Nothing was changed.")
        await self._throttle.succeeded(what, person.caller.source)
        passwords.check(new, person.name, person.email)
        return kept

    async def change(self, person: Person, kept: str, new: str) -> str:
        """Comes after `check` and a step-up; the session's new secret."""
        hashed, now = await self._passwords.hashed(new), self._clock.now()
        async with transaction(self._pool) as tx:
            await accounts.lock(tx, person.account_id)
            if not await accounts.change_password(tx, person.account_id, kept, hashed, now):
                raise Problem(409, "password_changed", "It was changed meanwhile: begin again.")
            await access.end_other_sessions(tx, person.account_id, person.session_id, now)
            await auditing.record(tx, person.caller, OWN, "password.change", person.actor)
            return await self._sessions.renew(tx, person.session_id)
