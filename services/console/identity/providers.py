"""Which identity providers there are: made, given a client, used or not, each change told."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from services.console.identity.discovery import Discovery
from services.console.identity.exchange import Client
from services.console.people import Person
from services.console.store import providers as store
from services.console.store.providers import Provider, Way
from shared.bus import outbox
from shared.db.pool import Connection, Pool, transaction
from shared.events.base import uuid7
from shared.events.people import ProviderChanged
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.problems import Problem
from shared.sealed import LocalCipher

__all__ = ["WRITE", "Provider", "Providers", "Way"]

WRITE = "identity.write"
MOST = 20
_HIDDEN = "***"


class Providers:
    def __init__(
        self, pool: Pool, clock: Clock, cipher: LocalCipher, discovery: Discovery, url: str
    ) -> None:
        self._pool, self._clock, self._cipher = pool, clock, cipher
        self._discovery, self._url = discovery, url.rstrip("/")

    async def every(self) -> list[Provider]:
        return await store.every(self._pool)

    async def in_use(self) -> list[Way]:
        """For the sign-in page."""
        return await store.in_use(self._pool)

    async def one(self, provider_id: UUID) -> Provider:
        found = await store.one(self._pool, provider_id)
        if found is None:
            raise _unknown()
        return found

    def redirect_uri(self, provider_id: UUID) -> str:
        """Each provider has its own: an answer that comes to another's is not taken (RFC 9700)."""
        return f"{self._url}/sign-in/callback/{provider_id}"

    def client(self, provider: Provider) -> Client:
        """What Muster is there; raises Problem while it is nothing, or not in use."""
        if not provider.enabled or provider.client_id is None or provider.client_secret is None:
            raise Problem(403, "provider_unused", "This identity provider is not in use.")
        secret = self._cipher.decrypt(provider.client_secret, **_place(provider.provider_id))
        redirect_uri = self.redirect_uri(provider.provider_id)
        return Client(provider.client_id, secret.decode(), redirect_uri)

    async def check(self, issuer: str) -> None:
        """Raises Problem unless somebody at this address says that it is this issuer."""
        if not issuer.startswith(("https://", "http://")) or urlsplit(issuer).query:
            detail = "An issuer is an address that begins with https:// and has no question mark."
            raise Problem(422, "issuer_invalid", detail)
        await self._discovery.metadata(issuer)

    async def add(self, person: Person, name: str, issuer: str) -> UUID:
        """A provider that nobody can use yet: it knows no client."""
        provider_id, now = uuid7(), self._clock.now()
        async with transaction(self._pool) as tx:
            if await store.count(tx) >= MOST:
                raise Problem(409, "providers_full", f"There are at most {MOST} providers.")
            if not await store.add(tx, provider_id, name, issuer, now):
                raise Problem(409, "issuer_there", "There is a provider with this issuer.")
            await self._tell(tx, person, provider_id, "identity_provider.create", None)
        return provider_id

    async def set_client(
        self, person: Person, provider_id: UUID, client_id: str, secret: str
    ) -> None:
        sealed = self._cipher.encrypt(secret.encode(), **_place(provider_id))
        async with transaction(self._pool) as tx:
            before = await _held(tx, provider_id)
            await store.set_client(tx, provider_id, client_id, sealed, self._clock.now())
            await self._tell(tx, person, provider_id, "identity_provider.client", before)

    async def set_use(
        self, person: Person, provider_id: UUID, *, enabled: bool, newcomers: bool
    ) -> None:
        """Whether it is asked who people are; `newcomers`: also those whom nobody linked."""
        async with transaction(self._pool) as tx:
            before = await _held(tx, provider_id)
            if enabled and before.client_id is None:
                raise Problem(409, "client_missing", "Give it Muster's client id and secret first.")
            now = self._clock.now()
            await store.set_use(tx, provider_id, enabled=enabled, newcomers=newcomers, now=now)
            await self._tell(tx, person, provider_id, "identity_provider.use", before)

    async def _tell(
        self,
        tx: Connection,
        person: Person,
        provider_id: UUID,
        action: str,
        before: Provider | None,
    ) -> None:
        """Write it down, and announce it: who may say who people are is power (security design)."""
        now = await _held(tx, provider_id)
        target = f"identity_provider:{provider_id}"
        was = _told(before) if before else None
        await auditing.record(
            tx, person.caller, WRITE, action, target, before=was, after=_told(now)
        )
        event = ProviderChanged(
            provider_id=provider_id,
            name=now.name,
            issuer=now.issuer,
            client_id=now.client_id,
            enabled=now.enabled,
            newcomers=now.newcomers,
            change=action,
            by=person.actor,
            changed_at=now.changed_at,
        )
        await outbox.emit(tx, [event])


async def _held(tx: Connection, provider_id: UUID) -> Provider:
    found = await store.held(tx, provider_id)
    if found is None:
        raise _unknown()
    return found


def _told(provider: Provider) -> dict[str, Any]:
    return {
        "name": provider.name,
        "issuer": provider.issuer,
        "client_id": provider.client_id,
        "client_secret": _HIDDEN if provider.client_secret else None,
        "enabled": provider.enabled,
        "newcomers": provider.newcomers,
    }


def _place(provider_id: UUID) -> dict[str, str]:
    return {"table": "identity_provider", "column": "client_secret", "row": str(provider_id)}


def _unknown() -> Problem:
    return Problem(404, "provider_unknown", "There is no such identity provider.")
