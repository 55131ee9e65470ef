"""Which webhooks there are: made by few, stepped up, each change in the audit."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from services.console.granting import check_holds
from services.console.people import Person
from services.console.store import deliveries
from services.console.store import webhooks as store
from services.console.store.deliveries import Delivery
from services.console.store.webhooks import Webhook
from services.console.webhooks.keeping import OFFERED, Keeping
from shared.db.pool import Pool, transaction
from shared.events.base import uuid7
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.outbound import Outbound, OutboundFailed
from shared.runtime.problems import Problem
from shared.sealed import LocalCipher

__all__ = ["READ", "STATES", "WRITE", "Delivery", "Webhook", "Webhooks", "opened_secret"]

READ, WRITE = "webhook.read", "webhook.write"
STATES = ("waiting", "delivered", "dead")
MOST = 50
_PREFIX = "whsec_"
_ALARMS_GO_ON = timedelta(hours=72)
"""As long as new power waits."""


class Webhooks:
    def __init__(
        self, pool: Pool, clock: Clock, cipher: LocalCipher, outbound: Outbound, keeping: Keeping
    ) -> None:
        self._pool, self._clock, self._cipher = pool, clock, cipher
        self._outbound, self._keeping = outbound, keeping

    async def every(self) -> list[Webhook]:
        return await store.every(self._pool)

    async def one(self, webhook_id: UUID) -> Webhook:
        found = await store.one(self._pool, webhook_id)
        if found is None:
            raise _unknown()
        return found

    async def log(
        self, webhook_id: UUID, state: str | None, before: UUID | None, limit: int
    ) -> list[Delivery]:
        """Deliveries, newest first."""
        return await deliveries.page(self._pool, webhook_id, state, before, limit)

    def check(self, person: Person, url: str, event_types: Sequence[str]) -> None:
        """Raises Problem for what cannot be; the address itself is judged at each dial.

        Who has events sent somewhere reads them there: they must be theirs to read.
        """
        try:
            self._outbound.checked(url)
        except OutboundFailed as failed:
            raise Problem(422, "url_refused", str(failed)) from None
        if not event_types or not set(event_types) <= set(OFFERED):
            raise Problem(422, "event_types_unknown", "Choose types of events from the list.")
        check_holds(person, {OFFERED[name].permission for name in event_types}, None)

    async def add(
        self,
        person: Person,
        name: str,
        url: str,
        event_types: Sequence[str],
        group_id: UUID | None,
    ) -> tuple[UUID, str]:
        """Its id, and the secret by which it knows us: shown this once."""
        webhook_id, key = uuid7(), secrets.token_bytes(32)
        sealed = self._cipher.encrypt(key, **_place(webhook_id))
        wanted, now = sorted(set(event_types)), self._clock.now()
        async with transaction(self._pool) as tx:
            if await store.count(tx) >= MOST:
                raise Problem(409, "webhooks_full", f"There are at most {MOST} webhooks.")
            values = (name, url, sealed, wanted, group_id, now, person.actor)
            await store.add(tx, webhook_id, *values)
            after = {
                "name": name,
                "url": url,
                "event_types": wanted,
                "group": str(group_id) if group_id else None,
            }
            target = f"webhook:{webhook_id}"
            await auditing.record(tx, person.caller, WRITE, "webhook.create", target, after=after)
        self._keeping.forget()
        return webhook_id, _PREFIX + base64.b64encode(key).decode()

    async def set_use(self, person: Person, webhook_id: UUID, *, enabled: bool) -> None:
        """Whether it is told; while not, nothing new is kept, and what waits goes on waiting.

        Of alarms it is told for three days more (decision 58).
        """
        until = self._clock.now() + _ALARMS_GO_ON
        async with transaction(self._pool) as tx:
            known = await store.one(tx, webhook_id)
            if known is None or not await store.set_use(tx, webhook_id, until, enabled=enabled):
                raise _unknown()
            before, after = {"enabled": known.enabled}, {"enabled": enabled}
            target = f"webhook:{webhook_id}"
            await auditing.record(
                tx, person.caller, WRITE, "webhook.use", target, before=before, after=after
            )
        self._keeping.forget()

    async def again(self, person: Person, webhook_id: UUID, delivery_id: UUID | None) -> None:
        """Send a delivery that is over again; None: all that are dead."""
        now, target = self._clock.now(), f"webhook:{webhook_id}"
        async with transaction(self._pool) as tx:
            if delivery_id is None:
                await deliveries.again_dead(tx, webhook_id, now)
            elif not await deliveries.again(tx, webhook_id, delivery_id, now):
                raise Problem(409, "delivery_waiting", "It waits already, or is forgotten.")
            which = {"delivery": str(delivery_id) if delivery_id else "all dead"}
            await auditing.record(
                tx, person.caller, WRITE, "webhook.redeliver", target, after=which
            )


def opened_secret(cipher: LocalCipher, webhook_id: UUID, sealed: bytes) -> bytes:
    return cipher.decrypt(sealed, **_place(webhook_id))


def _place(webhook_id: UUID) -> dict[str, str]:
    return {"table": "webhook", "column": "secret", "row": str(webhook_id)}


def _unknown() -> Problem:
    return Problem(404, "webhook_unknown", "There is no such webhook.")
