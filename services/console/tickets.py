"""A step-up carried on to the next form: for secrets, which a repeated form must not hold."""

from __future__ import annotations

import hmac
import secrets

from services.console.people import Person
from services.console.step_up import LIFETIME
from services.console.store import factors as store
from shared.db.pool import Pool
from shared.runtime.clock import Clock
from shared.runtime.problems import Problem


class Tickets:
    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def give(self, person: Person, purpose: str) -> str:
        """After `confirmed`: good once, for two minutes, in this session and for this."""
        ticket, over = secrets.token_urlsafe(32), self._clock.now() + LIFETIME
        value = ticket.encode()
        await store.challenge(self._pool, person.session_id, _named(purpose), value, over)
        return ticket

    async def take(self, person: Person, purpose: str, ticket: str) -> None:
        """Raises Problem unless it was given for this; right or wrong, it is gone."""
        now = self._clock.now()
        given = await store.answered(self._pool, person.session_id, _named(purpose), now)
        if given is None or not hmac.compare_digest(given, ticket.encode()):
            detail = "Your second factor was too long ago. Nothing was changed: begin again."
            raise Problem(403, "ticket_over", detail)


def _named(purpose: str) -> str:
    return f"ticket:{purpose}"
