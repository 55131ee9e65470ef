"""What coming back from an identity provider does: a session that waits for its second factor, or a
link between an identity and an account.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from uuid import UUID

from services.console import metrics
from services.console.directory import Directory
from services.console.identity.exchange import Proven
from services.console.identity.flows import Answer, Flow, Flows
from services.console.identity.linking import attach
from services.console.people import Person, actor_of
from services.console.sessions import Sessions, Visit
from services.console.signing_in import SIGN_IN
from services.console.store import accounts
from services.console.store import identities as store
from services.console.store import people as people_store
from services.console.store.providers import Provider
from services.console.throttling import Throttle
from shared.db.pool import Connection, Pool, transaction
from shared.events.base import uuid7
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.problems import Problem

METHOD = "provider"
_NOBODY = "nobody"
"""Who acts in the audit where nobody proved to be anybody."""


@dataclass(frozen=True)
class Entered:
    """`secret`: of a session that waits for its second factor; None: who was here still is."""

    secret: str | None
    following: str


class Entering:
    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        flows: Flows,
        directory: Directory,
        sessions: Sessions,
        throttle: Throttle,
    ) -> None:
        self._pool, self._clock, self._flows = pool, clock, flows
        self._directory, self._sessions, self._throttle = directory, sessions, throttle

    async def begin(self, provider_id: UUID, browser: str, following: str) -> str:
        """The provider's address, for somebody who wants to sign in."""
        return await self._flows.begin(provider_id, browser, following)

    async def begin_joining(self, provider_id: UUID, browser: str, token: str) -> str:
        """The same, by the link that somebody made; the link is spent on the way back."""
        linked = await self._directory.linked(token)
        if linked.sealed:
            raise Problem(409, "keys_only", "A sealed account is opened by keys alone.")
        link_hash = hashlib.sha256(token.encode()).digest()
        return await self._flows.begin(
            provider_id, browser, "/", account_id=linked.account_id, link_hash=link_hash
        )

    async def begin_linking(self, person: Person, provider_id: UUID, browser: str) -> str:
        """The same, to link it with one's own account; comes after a step-up."""
        return await self._flows.begin(
            provider_id, browser, "/me/identities", account_id=person.account_id
        )

    async def finish(
        self,
        provider_id: UUID,
        browser: str,
        answer: Answer,
        visit: Visit,
        person: Person | None,
    ) -> Entered:
        """Raises Problem; each refusal is in the audit."""
        state = hashlib.sha256(answer.state.encode()).hexdigest()
        await self._throttle.charge(f"state:{state}", visit.source)
        try:
            provider, flow, proven = await self._flows.finish(provider_id, browser, answer)
            async with transaction(self._pool) as tx:
                entered = await self._enter(tx, provider, flow, proven, visit, person)
        except Problem as problem:
            metrics.SIGN_INS.labels("refused").inc()
            await self._refused(provider_id, problem, visit.source)
            raise
        await self._throttle.succeeded(f"state:{state}", visit.source)
        return entered

    async def _enter(
        self,
        tx: Connection,
        provider: Provider,
        flow: Flow,
        proven: Proven,
        visit: Visit,
        person: Person | None,
    ) -> Entered:
        if flow.account_id is None:
            return await self._sign_in(tx, provider, flow, proven, visit)
        if flow.link_hash is not None:
            return await self._join(tx, flow.account_id, flow.link_hash, proven, visit)
        if person is None or person.account_id != flow.account_id:
            raise Problem(403, "state_unknown", "You are not signed in any more: begin again.")
        await self._link(tx, person.account_id, proven, person.caller)
        return Entered(None, flow.following)

    async def _sign_in(
        self, tx: Connection, provider: Provider, flow: Flow, proven: Proven, visit: Visit
    ) -> Entered:
        """A session that opens nothing yet: the provider takes the place of the password alone."""
        owner = await store.account_of(tx, proven.issuer, proven.subject)
        if owner is None and provider.newcomers:
            account_id = await self._newcomer(tx, proven, visit)
        elif owner is None or owner.disabled_at is not None:
            raise _nobody(proven)
        else:
            account_id = owner.account_id
        await store.used(tx, proven.issuer, proven.subject, self._clock.now())
        secret = await self._sessions.begin(tx, account_id, METHOD, visit, proven=False)
        return Entered(secret, flow.following)

    async def _newcomer(self, tx: Connection, proven: Proven, visit: Visit) -> UUID:
        """An account that holds nothing; never one that is there, whatever e-mail is named."""
        email, name = proven.email, (proven.name or proven.email or "")[:200]
        if email is None or not 3 <= len(email) <= 254 or "@" not in email:  # noqa: PLR2004
            raise Problem(403, "identity_unknown", "The identity provider did not name an e-mail.")
        if await accounts.is_taken(tx, email):
            detail = "There is an account with this e-mail. Ask for a link, and use it there."
            raise Problem(403, "identity_unknown", detail)
        account_id, now = uuid7(), self._clock.now()
        await accounts.add(tx, account_id, name, email, now)
        who = Caller(actor_of(account_id), frozenset(), visit.source)
        after = {"name": name, "email": email, "issuer": proven.issuer}
        await auditing.record(tx, who, SIGN_IN, "account.create", who.actor, after=after)
        await self._link(tx, account_id, proven, who)
        return account_id

    async def _join(
        self, tx: Connection, account_id: UUID, link_hash: bytes, proven: Proven, visit: Visit
    ) -> Entered:
        await accounts.lock(tx, account_id)
        if await people_store.spend_link(tx, link_hash, self._clock.now()) != account_id:
            detail = "This link is wrong, used or over. Ask for a new one."
            raise Problem(403, "link_refused", detail)
        who = Caller(actor_of(account_id), frozenset(), visit.source)
        await auditing.record(tx, who, "link", "account.join", who.actor)
        await self._link(tx, account_id, proven, who)
        secret = await self._sessions.begin(tx, account_id, "link", visit, proven=False)
        return Entered(secret, "/")

    async def _link(self, tx: Connection, account_id: UUID, proven: Proven, by: Caller) -> None:
        await accounts.lock(tx, account_id)
        who = (proven.issuer, proven.subject)
        await attach(tx, by, SIGN_IN, account_id, who, self._clock.now())

    async def _refused(self, provider_id: UUID, problem: Problem, source: str | None) -> None:
        nobody = Caller(_NOBODY, frozenset(), source)
        target = f"identity_provider:{provider_id}"
        after = {"why": problem.code, "detail": problem.detail}
        async with transaction(self._pool) as tx:
            await auditing.record(tx, nobody, SIGN_IN, "session.refuse", target, after=after)


def _nobody(proven: Proven) -> Problem:
    detail = "No account that may sign in belongs to this identity. Ask for a link"
    return Problem(403, "identity_unknown", f"{detail}; you are {proven.subject} there.")
