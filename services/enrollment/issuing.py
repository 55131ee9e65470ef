"""Device identities over SCEP: a challenge buys one certificate, a certificate renews itself."""

from __future__ import annotations

import hashlib
import hmac
import logging
from datetime import datetime, timedelta
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from services.enrollment import metrics
from services.enrollment.apple import scep
from services.enrollment.apple.scep import Message, Request, ScepRefusal
from services.enrollment.authorities import Authorities
from services.enrollment.credentials import digest
from services.enrollment.pki import leaf
from services.enrollment.pki.authority import KeyPair
from services.enrollment.pki.leaf import Holder, LeafKey, RequestError
from services.enrollment.refusals import Refusals
from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store import certificates, pins, sessions, states
from services.enrollment.store.certificates import Certificate
from services.enrollment.store.pins import Pin
from services.enrollment.store.sessions import Session
from shared.bus import outbox
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, connected, transaction
from shared.events.devices import CertificateIssued
from shared.runtime.clock import Clock

log = logging.getLogger(__name__)

_MAX_LIVE = 4
"""Certificates that may speak for one enrollment at a time: a device cannot renew without end."""


class Issuing:
    """Answers SCEP operations; every refusal of a signed message looks the same."""

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

    def ca_certificates(self) -> tuple[str, bytes]:
        """Content type and body of GetCACert: the RA, then the CA."""
        authority = self._authorities.current
        return scep.ca_certificates(authority.ca.certificate, authority.ras[0].certificate)

    async def operate(self, challenge: str, data: bytes) -> bytes:
        """Answer a PKIOperation; raises ScepError for what nobody provably signed."""
        message = scep.read_message(data, allow_sha1=self._settings.allow_sha1)
        ra = self._authorities.current.ras[0]
        try:
            request, ra = await self._opened(message)
            key = leaf.check_request(request.csr)
            if request.renews:
                issued = await self._renew(request.renews, key)
            else:
                issued = await self._enroll(challenge, request.challenge, key)
        except (ScepRefusal, RequestError) as refusal:
            metrics.SCEP_REQUESTS.labels(message.kind[:2], "refused").inc()
            log.info("A certificate was refused", extra={"why": refusal.reason})
            return scep.failure(message, ra)
        metrics.SCEP_REQUESTS.labels(message.kind[:2], "granted").inc()
        return scep.success(message, request, x509.load_der_x509_certificate(issued), ra)

    async def _opened(self, message: Message) -> tuple[Request, KeyPair]:
        """Open a request, also one for an RA that another process has told the client of."""
        try:
            return self._open(message)
        except ScepRefusal:
            if not await self._authorities.look_again():
                raise
        return self._open(message)

    def _open(self, message: Message) -> tuple[Request, KeyPair]:
        """Decrypt with the RA it was meant for: around a change of RA there are two."""
        refusal = ScepRefusal("no registration authority")
        for ra in self._authorities.current.ras:
            try:
                opened = scep.open_request(message, ra, allow_des=self._settings.allow_des)
            except ScepRefusal as error:
                refusal = error
            else:
                return opened, ra
        raise refusal

    async def _enroll(self, path: str, password: str | None, key: LeafKey) -> bytes:
        """PKCSReq: the challenge of a session, once; the same key again gets the same leaf."""
        if password is not None and not hmac.compare_digest(password.encode(), path.encode()):
            raise ScepRefusal("the challenge is not the one in the address")
        async with connected(self._pool) as connection:
            session = await sessions.find(connection, digest(path))
        if session is None:
            raise ScepRefusal("no such challenge")
        now = self._clock.now()
        if session.withdrawn or (session.certificate_sha256 is None and session.expires_at <= now):
            await self._refusals.record("scep", "challenge_over", session.credential_id)
            raise ScepRefusal("the challenge is over")
        if session.certificate_sha256 is not None:
            return await self._bought_before(session, key)
        made = self._sign(key, session.session_id, session.serial, now)
        async with transaction(self._pool) as tx:
            spent = await sessions.spend(tx, session.session_id, made.sha256, now)
            if spent:
                await certificates.add(tx, made)
        if not spent:  # somebody was quicker: perhaps the same device, twice
            async with connected(self._pool) as connection:
                session = await sessions.find(connection, digest(path)) or session
            return await self._bought_before(session, key)
        metrics.CERTIFICATES_ISSUED.labels("enrollment").inc()
        return made.der

    async def _bought_before(self, session: Session, key: LeafKey) -> bytes:
        async with connected(self._pool) as connection:
            found = await certificates.der_and_key(connection, session.certificate_sha256 or b"")
        if found is None or found[1] != _key_digest(key):
            await self._refusals.record("scep", "challenge_replayed", session.credential_id)
            async with transaction(self._pool) as tx:
                await sessions.suspect(tx, session.session_id, "challenge_reused")
            raise ScepRefusal("the challenge was spent with another key")
        return found[0]

    async def _renew(self, current: bytes, key: LeafKey) -> bytes:
        """RenewalReq: the current certificate is the proof, the new one speaks for the same."""
        async with connected(self._pool) as connection:
            pin = (await pins.read(connection, [current])).get(current)
        device_id = _renewable(pin, self._clock.now())
        async with transaction(self._pool) as tx:
            await lock_devices(tx, [device_id])
            pin = (await pins.read(tx, [current])).get(current)
            _renewable(pin, self._clock.now())
            return await self._renew_locked(tx, pin, key) if pin else b""

    async def _renew_locked(self, tx: Connection, pin: Pin, key: LeafKey) -> bytes:
        enrollment, now = pin.enrollment, self._clock.now()
        if enrollment is None:
            raise ScepRefusal("not renewable")
        live = await certificates.live(tx, enrollment.enrollment_id)
        for der, of_key in live:
            if of_key == _key_digest(key) and hashlib.sha256(der).digest() != pin.sha256:
                return der
        if len(live) >= _MAX_LIVE:
            raise ScepRefusal("too many certificates for one enrollment")
        session_id = pin.grant.session_id if pin.grant else enrollment.enrollment_id
        owner = (enrollment.device_id, enrollment.enrollment_id)
        made = self._sign(key, session_id, None, now, *owner)
        await certificates.add(tx, made)
        event = CertificateIssued(
            device_id=enrollment.device_id,
            sha256=made.sha256.hex(),
            serial_number=made.serial_number,
            not_after=made.not_after,
            renewal=True,
        )
        await outbox.emit(tx, [event, *await states.read(tx, [enrollment.device_id])])
        metrics.CERTIFICATES_ISSUED.labels("renewal").inc()
        return made.der

    def _sign(
        self,
        key: LeafKey,
        session_id: UUID,
        serial: str | None,
        now: datetime,
        device_id: UUID | None = None,
        enrollment_id: UUID | None = None,
    ) -> Certificate:
        authority = self._authorities.current
        certificate = leaf.issue(
            authority.ca,
            key,
            Holder(session_id, self._settings.organisation, serial),
            authority.addresses,
            now=now,
            lifetime=timedelta(days=self._settings.leaf_days),
        )
        der = certificate.public_bytes(serialization.Encoding.DER)
        return Certificate(
            sha256=hashlib.sha256(der).digest(),
            serial_number=f"{certificate.serial_number:x}",
            authority=authority.name,
            key_sha256=_key_digest(key),
            der=der,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            session_id=session_id,
            device_id=device_id,
            enrollment_id=enrollment_id,
            issued_at=now,
        )


def _renewable(pin: Pin | None, now: datetime) -> UUID:
    """The device whose certificate may be renewed; raises ScepRefusal."""
    if pin is None or pin.enrollment is None or not pin.pinned:
        raise ScepRefusal("the signer is no device of ours")
    if pin.revoked or pin.leaving or not pin.not_before <= now <= pin.not_after:
        raise ScepRefusal("the signer's certificate no longer counts")
    if pin.enrollment.state not in ("pending", "enrolled"):
        raise ScepRefusal("the enrollment is not trusted")
    return pin.enrollment.device_id


def _key_digest(key: LeafKey) -> bytes:
    return hashlib.sha256(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    ).digest()
