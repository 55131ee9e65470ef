"""Handing out enrollment profiles: a use of a credential becomes a session with one challenge."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from services.enrollment import directory, metrics
from services.enrollment.addresses import source_of
from services.enrollment.apple import profile
from services.enrollment.apple.profile import ALL_RIGHTS, PERSONAL_RIGHTS, ProfileError
from services.enrollment.authorities import Authorities
from services.enrollment.credentials import digest
from services.enrollment.guessing import Guesses
from services.enrollment.refusals import Refusals
from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store import (
    channels,
    credentials,
    enrollments,
    imports,
    push_certificates,
    sessions,
)
from services.enrollment.store.credentials import Credential
from services.enrollment.store.sessions import Limits, Session
from shared.apple import cms
from shared.db.pool import Connection, Pool, connected, transaction
from shared.events.base import uuid7, uuid7_floor
from shared.events.devices import Ownership
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.problems import Problem

_OVER = frozenset({"credential_spent", "credential_revoked"})
RENEW = "enrollment.renew"
ENROLL = "enrollment.enroll"
"""What a credential permits, in the audit's words."""


class Handouts:
    """Makes profiles, for new devices and for the renewal of enrolled ones."""

    def __init__(
        self,
        pool: Pool,
        authorities: Authorities,
        refusals: Refusals,
        settings: EnrollmentSettings,
        clock: Clock,
    ) -> None:
        self._pool, self._authorities, self._clock = pool, authorities, clock
        self._refusals, self._settings = refusals, settings
        self._roots = _roots(settings.server_roots)
        self._guesses = Guesses(clock)

    async def hand_out(self, token: str, *, unsigned: bool, source: str | None = None) -> bytes:
        """The profile that a credential's token buys, CMS-signed unless asked and allowed.

        `source` is the asker's address, for the audit. Raises Problem: nothing is spent then.
        """
        self._guesses.check(self._counted(source))
        topic = await self._topic()
        now = self._clock.now()
        async with transaction(self._pool) as tx:
            credential = await credentials.spend(tx, digest(token), now, unsigned=unsigned)
            if credential:
                asker = Caller(f"credential:{credential.credential_id}", frozenset(), source)
                document = await self._begin(tx, credential, topic, asker)
                metrics.PROFILES.labels("unsigned" if unsigned else "signed").inc()
                return document if unsigned else self._sign(document)
        raise await self._refusal(token, source, unsigned=unsigned)

    async def _begin(
        self, tx: Connection, credential: Credential, topic: str, asker: Caller
    ) -> bytes:
        """Open a session and render its profile, in the transaction that spends the use."""
        challenge = secrets.token_urlsafe(24)
        session = self._session_of(credential, self._counted(asker.source))
        document = self._render(session, topic, challenge)
        await sessions.add(tx, session, digest(challenge), self._limits())
        target = f"session:{session.session_id}"
        await auditing.record(tx, asker, ENROLL, "profile.hand_out", target)
        return document

    async def renewal(self, device_id: UUID, caller: Caller) -> bytes:
        """A signed profile that gives an enrolled device a new certificate and changes nothing
        else: to be sent as an InstallProfile command.

        Its challenge is good for this enrollment only. Topic and addresses are those that the
        device has installed: they can never change.
        """
        topic = await self._topic()
        now = self._clock.now()
        challenge = secrets.token_urlsafe(24)
        async with transaction(self._pool) as tx:
            await directory.find(tx, device_id, caller.reach(RENEW))
            told = await enrollments.of_device(tx, device_id)
            current = next((one for one in told if one.state == "enrolled"), None)
            if current is None:
                raise Problem(409, "not_enrolled", "Only an enrolled device can be renewed.")
            session = Session(
                session_id=uuid7(now),
                credential_id=None,
                renews=current.enrollment_id,
                platform=None,
                ownership=current.ownership,
                serial=None,
                user_name=None,
                access_rights=current.access_rights,
                created_at=now,
                expires_at=now + timedelta(seconds=self._settings.renewal_lifetime),
            )
            topic = await channels.topic(tx, current.enrollment_id) or topic
            installed = await imports.installed_profile(tx, current.enrollment_id)
            document = self._render(session, topic, challenge, installed)
            await sessions.add(tx, session, digest(challenge), self._limits())
            await auditing.record(tx, caller, RENEW, "device.renewal_profile", str(device_id))
        metrics.PROFILES.labels("renewal").inc()
        return self._sign(document)

    async def _topic(self) -> str:
        """What devices listen for; without a push certificate nobody could ever be woken."""
        async with connected(self._pool) as connection:
            found = await push_certificates.current(connection, self._clock.now())
        if found is None:
            metrics.PROFILES.labels("no_push_certificate").inc()
            raise Problem(
                503,
                "push_certificate_missing",
                "No push certificate is known yet: upload one, then ask again.",
            )
        return found[0]

    def _session_of(self, credential: Credential, address: str | None) -> Session:
        now = self._clock.now()
        personal = credential.ownership == Ownership.PERSONAL
        return Session(
            session_id=uuid7(now),
            credential_id=credential.credential_id,
            renews=None,
            platform=credential.platform,
            ownership=credential.ownership,
            serial=credential.serial,
            user_name=credential.user_name,
            access_rights=PERSONAL_RIGHTS if personal else ALL_RIGHTS,
            created_at=now,
            expires_at=now + timedelta(seconds=self._settings.session_lifetime),
            address=address,
        )

    def _counted(self, peer: str | None) -> str | None:
        return source_of(peer, self._settings.lobby_uncounted)

    def _limits(self) -> Limits:
        window = timedelta(seconds=self._settings.lobby_address_window)
        return Limits(
            since=uuid7_floor(self._clock.now() - window),
            of_address=self._settings.lobby_address_limit,
            of_credential=self._settings.lobby_credential_addresses,
        )

    def _render(
        self,
        session: Session,
        topic: str,
        challenge: str,
        installed: Mapping[str, Any] | None = None,
    ) -> bytes:
        """`installed`: another server's profile, which this one replaces."""
        base = self._settings.public_url.rstrip("/")
        same = {
            "checkin_url": f"{base}/mdm/apple/checkin",
            "connect_url": f"{base}/mdm/apple/connect",
        }
        try:
            return profile.render(
                profile.Enrollment(
                    session_id=session.session_id,
                    organization=self._settings.organisation,
                    topic=topic,
                    scep_url=f"{base}/scep/{challenge}",
                    challenge=challenge,
                    rights=session.access_rights,
                    roots=self._roots,
                    **(_as_installed(installed) if installed else same),
                )
            )
        except ProfileError as error:
            raise Problem(503, "profile_impossible", str(error)) from None

    def _sign(self, document: bytes) -> bytes:
        authority = self._authorities.current
        signer = authority.profile
        return cms.sign(document, signer.certificate, signer.key, chain=[authority.ca.certificate])

    async def _refusal(self, token: str, source: str | None, *, unsigned: bool) -> Problem:
        """Why a token buys nothing; a stranger's is only counted."""
        async with connected(self._pool) as connection:
            known = await credentials.find(connection, digest(token))
        code, address = "credential_unknown", self._counted(source)
        if known is None:
            self._guesses.wrong(address)
        else:
            code = _why(known, unsigned=unsigned)
            await self._refusals.record("profile", code, known.credential_id, address=address)
            if address and code in _OVER:
                await self._look_for_leak(known, address)
        metrics.PROFILES.labels(code).inc()
        return Problem(403, code, "Ask for a new enrollment address.")

    async def _look_for_leak(self, credential: Credential, address: str) -> None:
        """It was asked for after its end: by who has used it, again, or by somebody else."""
        if not self._refusals.is_news((credential.credential_id, address)):
            return
        now = self._clock.now()
        async with transaction(self._pool) as tx:
            if await credentials.asked_in_vain(tx, credential.credential_id, address, now):
                await credentials.leaked(tx, credential.credential_id, now)


def _as_installed(installed: Mapping[str, Any]) -> dict[str, Any]:
    """What must not change on the device, as it stands in the other server's profile."""
    return {
        "identifier": installed["identifier"],
        "management_identifier": installed.get("management_identifier"),
        "connect_url": installed["server_url"],
        "checkin_url": installed.get("checkin_url"),
        "per_user": installed["per_user_connections"],
    }


def _why(credential: Credential, *, unsigned: bool) -> str:
    if credential.revoked_at is not None:
        return "credential_revoked"
    if credential.uses >= credential.max_uses:
        return "credential_spent"
    if unsigned and not credential.unsigned_allowed:
        return "unsigned_not_allowed"
    return "credential_expired"


def _roots(path: Path | None) -> list[bytes]:
    """The certificates of a PEM file, as DER."""
    if path is None:
        return []
    return [
        certificate.public_bytes(serialization.Encoding.DER)
        for certificate in x509.load_pem_x509_certificates(path.read_bytes())
    ]
