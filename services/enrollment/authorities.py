"""The CA and its helpers: made at first start, kept encrypted, renewed before they end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from services.enrollment import metrics
from services.enrollment.pki import authority as pki
from services.enrollment.pki.authority import Addresses, KeyPair
from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store import authorities as store
from services.enrollment.store.authorities import StoredAuthority
from shared.bus import outbox
from shared.db.pool import Pool, connected, describe, transaction
from shared.events.device_state import AuthorityPublished
from shared.runtime.clock import Clock
from shared.sealed import LocalCipher

log = logging.getLogger(__name__)

KIND = "device-identity"
_RENEW_BEFORE = timedelta(days=30)
_HELPERS = ("ra", "ocsp", "profile")
_FRESH_SECONDS = 3_600.0
# Strangers make us look: no more often than this.
_LOOK_SECONDS = 10.0


@dataclass(frozen=True)
class Authority:
    """The keys that sign now. `ras` are newest first: a request may be meant for an older one."""

    name: str
    ca: KeyPair
    ras: Sequence[KeyPair]
    ocsp: KeyPair
    profile: KeyPair
    addresses: Addresses


class Authorities:
    """Holds the authority in memory; `refresh` makes what is missing or about to end.

    Every process has a copy of its own, and whichever looks first renews for all: the others follow
    within the hour, and at once when a client shows them a helper that they do not know.
    """

    def __init__(
        self, pool: Pool, cipher: LocalCipher, settings: EnrollmentSettings, clock: Clock
    ) -> None:
        self._pool, self._cipher, self._settings, self._clock = pool, cipher, settings, clock
        self._authority: Authority | None = None
        self._names: set[str] = set()
        self._looked_at = -_LOOK_SECONDS

    @property
    def current(self) -> Authority:
        if self._authority is None:
            raise RuntimeError("the authority is read at start, before anything is served")
        return self._authority

    async def refresh(self) -> None:
        """Read the authority; whoever is first on an empty database makes it."""
        async with connected(self._pool) as connection:
            stored = await store.read(connection)
        while missing := self._missing(stored):
            # Seconds of work: beside the event loop, and before any lock is held.
            made = await asyncio.to_thread(self._make, stored, missing)
            stored = await self._keep(stored, made)
        names = {one.name for one in stored}
        if names != self._names:
            self._authority, self._names = self._loaded(stored), names
        self._measure(self.current)

    async def keep_fresh(self) -> None:
        """Refresh every hour in every process, whatever its roles, until cancelled."""
        while True:
            await asyncio.sleep(_FRESH_SECONDS)
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - what is known is good for weeks yet
                log.warning("The authority is not refreshed", extra={"error": describe(error)})

    async def look_again(self) -> bool:
        """Whether another process has made helpers that were not known here until now."""
        if time.monotonic() - self._looked_at < _LOOK_SECONDS:
            return False
        self._looked_at = time.monotonic()
        before = self._names
        await self.refresh()
        return self._names != before

    def _measure(self, authority: Authority) -> None:
        holders = (authority.ca, authority.ras[0], authority.ocsp, authority.profile)
        for role, pair in zip(("ca", *_HELPERS), holders, strict=True):
            left = pair.certificate.not_valid_after_utc - self._clock.now()
            metrics.AUTHORITY_EXPIRES_SECONDS.labels(role).set(left.total_seconds())

    def _missing(self, stored: Sequence[StoredAuthority]) -> list[str]:
        """The roles that nobody holds, or whose holder ends within a month; the CA first."""
        soon = self._clock.now() + _RENEW_BEFORE
        held = {
            one.role
            for one in stored
            if one.role == "ca"
            or x509.load_der_x509_certificate(one.certificate).not_valid_after_utc > soon
        }
        return [role for role in ("ca", *_HELPERS) if role not in held]

    def _make(
        self, stored: Sequence[StoredAuthority], missing: Sequence[str]
    ) -> list[StoredAuthority]:
        now, settings = self._clock.now(), self._settings
        made = []
        if "ca" in missing:
            ca = pki.create_authority(
                settings.ca_name, settings.organisation, now=now, years=settings.ca_years
            )
            made.append(self._closed(f"{KIND}-1", "ca", ca, now))
        else:
            ca = self._open(next(one for one in stored if one.role == "ca"))
        for role in missing:
            if role != "ca":
                name = f"{KIND}-{role}-{secrets.token_hex(4)}"
                made.append(self._closed(name, role, self._helper(role, ca, now), now))
        return made

    async def _keep(
        self, seen: Sequence[StoredAuthority], made: Sequence[StoredAuthority]
    ) -> Sequence[StoredAuthority]:
        """Store what was made, unless somebody else was quicker; return what is there now."""
        async with transaction(self._pool) as tx:
            await store.take_turns(tx)
            stored = await store.read(tx)
            if {one.name for one in stored} != {one.name for one in seen}:
                return stored
            for one in made:
                await store.add(tx, one)
                if one.role == "ca":
                    certificate = x509.load_der_x509_certificate(one.certificate)
                    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
                    await outbox.emit(tx, [AuthorityPublished(authority=KIND, certificates=[pem])])
            return await store.read(tx)

    def _helper(self, role: str, ca: KeyPair, now: datetime) -> KeyPair:
        organisation = self._settings.organisation
        addresses = Addresses.under(self._settings.public_url, f"{KIND}-1")
        if role == "ra":
            return pki.create_registration_authority(ca, organisation, addresses, now=now)
        if role == "ocsp":
            return pki.create_ocsp_responder(ca, organisation, now=now)
        return pki.create_profile_signer(ca, organisation, addresses, now=now)

    def _closed(self, name: str, role: str, pair: KeyPair, now: datetime) -> StoredAuthority:
        key = self._cipher.encrypt(pair.key_bytes, table="authority", column="key", row=name)
        return StoredAuthority(name, role, pair.certificate_bytes, key, now)

    def _open(self, stored: StoredAuthority) -> KeyPair:
        key = self._cipher.decrypt(stored.key, table="authority", column="key", row=stored.name)
        return KeyPair.load(stored.certificate, key)

    def _loaded(self, stored: Sequence[StoredAuthority]) -> Authority:
        by_role = {role: [one for one in stored if one.role == role] for role in ("ca", *_HELPERS)}
        [ca] = by_role["ca"]
        return Authority(
            name=ca.name,
            ca=self._open(ca),
            ras=[self._open(one) for one in by_role["ra"]],
            ocsp=self._open(by_role["ocsp"][0]),
            profile=self._open(by_role["profile"][0]),
            addresses=Addresses.under(self._settings.public_url, ca.name),
        )
