"""Push certificates: the request, the upload, the expiry, and the way to APNs that each opens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID

from services.push_notifier import metrics
from services.push_notifier.apple.apns import Apns, client_context
from services.push_notifier.settings import PushSettings
from services.push_notifier.store import attempts, certificates
from services.push_notifier.store.certificates import PushCertificate
from shared.bus import outbox
from shared.db.pool import Connection, Pool, transaction
from shared.events.audit import AuditRecorded
from shared.events.base import uuid7
from shared.events.pushes import PushCertificateChanged
from shared.runtime.clock import Clock
from shared.runtime.problems import Problem
from shared.sealed import LocalCipher

__all__ = ["Certificates", "PushCertificate", "days_left"]

_TOPIC_PREFIX = "com.apple.mgmt."
_KEY_PLACE = {"table": "push_certificate", "column": "key"}


@dataclass(frozen=True)
class Upload:
    """A certificate with the private key that proves it ours."""

    certificate: x509.Certificate
    pem: str
    key_pem: bytes
    topic: str


class Certificates:
    def __init__(
        self, pool: Pool, cipher: LocalCipher, settings: PushSettings, clock: Clock
    ) -> None:
        self._pool = pool
        self._cipher = cipher
        self._settings = settings
        self._clock = clock
        self._senders: dict[str, tuple[str, Apns]] = {}

    async def request(self, actor: str, source: str | None, via: str | None = None) -> str:
        """A new key and its CSR (PEM), to be signed through Apple's push certificate portal."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Muster push")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        pem = csr.public_bytes(serialization.Encoding.PEM).decode()
        request_id, public = uuid7(), _public_bytes(key)
        secret = self._cipher.encrypt(
            _private_bytes(key), table="certificate_request", column="key", row=str(request_id)
        )
        async with transaction(self._pool) as tx:
            await certificates.add_request(tx, request_id, pem, secret, public, self._clock.now())
            asked = _audit("push.certificate_requested", actor, source, {}, via=via)
            await outbox.emit(tx, [asked])
        return pem

    async def upload(
        self,
        certificate: str,
        private_key: str | None,
        *,
        replace: bool,
        actor: str,
        source: str | None,
        via: str | None = None,
    ) -> PushCertificate:
        """Take a signed certificate into use.

        Refused: without its key, expired, not a push certificate, or with another topic than the
        one devices were enrolled under (they could never be woken again) unless `replace` is set.
        """
        async with transaction(self._pool) as tx:
            await certificates.lock(tx)
            new = await self._checked(tx, certificate, private_key)
            current = await certificates.current_topic(tx)
            if current and current != new.topic and not replace:
                raise Problem(
                    409,
                    "push_topic_differs",
                    f"This certificate's topic is {new.topic}, devices are enrolled under "
                    f"{current}. Renew the old certificate with the same Apple account; a new "
                    "topic means enrolling every device again (then send replace_topic).",
                )
            stored = self._row(new, actor)
            await certificates.store(tx, stored)
            await attempts.close_circuits(tx, [stored.topic])
            told = {"topic": stored.topic, "fingerprint": stored.fingerprint}
            before = {"topic": current}
            await outbox.emit(
                tx,
                [
                    _changed(stored),
                    _audit("push.certificate_changed", actor, source, told, before, via=via),
                ],
            )
        self._measure(stored)
        return stored

    async def sender(self, topic: str) -> Apns | None:
        """The connection to APNs for this topic, rebuilt when its certificate changes; None when
        there is no certificate that is still valid.
        """
        async with self._pool.acquire() as connection:
            found = await certificates.one(connection, topic)
        if found is None or found.not_after <= self._clock.now():
            return None
        known = self._senders.get(topic)
        if known and known[0] == found.fingerprint:
            return known[1]
        key = self._cipher.decrypt(found.key, **_KEY_PLACE, row=topic)
        context = client_context(found.certificate, key, self._settings.apns_trust)
        settings = self._settings
        apns = Apns(
            context,
            host=settings.apns_host,
            port=settings.apns_port,
            connections=settings.apns_connections,
            timeout=settings.send_timeout,
        )
        if known:
            known[1].close()
        self._senders[topic] = (found.fingerprint, apns)
        return apns

    async def watch_expiry(self) -> None:
        """Keep the gauges that warn at 60, 30, 14, 7 and 1 days true."""
        async with self._pool.acquire() as connection:
            found = await certificates.all_of_them(connection)
        for row in found:
            self._measure(row)

    def _measure(self, row: PushCertificate) -> None:
        left = (row.not_after - self._clock.now()).total_seconds()
        metrics.CERTIFICATE_EXPIRES_SECONDS.labels(row.topic).set(left)

    def close(self) -> None:
        for _, apns in self._senders.values():
            apns.close()

    async def _checked(self, tx: Connection, pem: str, private_key: str | None) -> Upload:
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode())
        except ValueError:
            raise Problem(422, "certificate_unreadable", "Send one certificate in PEM.") from None
        topics = certificate.subject.get_attributes_for_oid(NameOID.USER_ID)
        topic = str(topics[0].value) if len(topics) == 1 else ""
        if not topic.startswith(_TOPIC_PREFIX):
            raise Problem(
                422,
                "not_a_push_certificate",
                f"An MDM push certificate names its topic ({_TOPIC_PREFIX}…) in the subject's UID.",
            )
        if (
            not certificate.not_valid_before_utc
            <= self._clock.now()
            < certificate.not_valid_after_utc
        ):
            raise Problem(422, "certificate_not_valid_now", "This certificate is not valid now.")
        if private_key is not None:
            key = _load_key(private_key)
        else:
            key = await self._requested_key(tx, certificate)
        if _public_bytes(key) != _public_of(certificate):
            raise Problem(422, "key_differs", "The private key is not this certificate's.")
        return Upload(certificate, pem, _private_bytes(key), topic)

    async def _requested_key(
        self, tx: Connection, certificate: x509.Certificate
    ) -> PrivateKeyTypes:
        found = await certificates.request_for_key(tx, _public_of(certificate))
        if found is None:
            raise Problem(
                422,
                "key_unknown",
                "No request of this installation has this certificate's key: make a request "
                "first, or send the private key with the certificate.",
            )
        request_id, secret = found
        pem = self._cipher.decrypt(
            secret, table="certificate_request", column="key", row=str(request_id)
        )
        return serialization.load_pem_private_key(pem, None)

    def _row(self, new: Upload, actor: str) -> PushCertificate:
        return PushCertificate(
            topic=new.topic,
            certificate=new.pem,
            key=self._cipher.encrypt(new.key_pem, **_KEY_PLACE, row=new.topic),
            fingerprint=new.certificate.fingerprint(hashes.SHA256()).hex(),
            not_after=new.certificate.not_valid_after_utc,
            current=True,
            uploaded_at=self._clock.now(),
            uploaded_by=actor,
        )


def days_left(row: PushCertificate, now: datetime) -> int:
    return (row.not_after - now).days


def _changed(row: PushCertificate) -> PushCertificateChanged:
    return PushCertificateChanged(
        topic=row.topic, fingerprint=row.fingerprint, not_after=row.not_after, current=row.current
    )


def _audit(
    action: str,
    actor: str,
    source: str | None,
    after: dict[str, str],
    before: dict[str, str | None] | None = None,
    *,
    via: str | None,
) -> AuditRecorded:
    return AuditRecorded(
        audit_id=uuid7(),
        actor=actor,
        permission="push.certificate",
        action=action,
        target="push-certificate",
        before=before,
        after=after or None,
        source=source,
        via=via,
    )


def _load_key(pem: str) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        raise Problem(422, "key_unreadable", "Send the private key as unencrypted PEM.") from None


def _private_bytes(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


_SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _public_bytes(key: PrivateKeyTypes) -> bytes:
    return key.public_key().public_bytes(*_SPKI)


def _public_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(*_SPKI)
