"""Push certificates: the request, the upload, the way back, the expiry, and the way to APNs that
each opens.

A certificate that takes the place of another is tried first (decision 63): whoever names the topic
in a certificate of their own would silence the fleet otherwise.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID

from services.push_notifier import metrics
from services.push_notifier.answers import Answer, Opinion, judge
from services.push_notifier.apple.apns import Apns, client_context
from services.push_notifier.settings import PushSettings
from services.push_notifier.store import attempts, certificates
from services.push_notifier.store.certificates import FormerCertificate, PushCertificate
from services.push_notifier.uploads import (
    Upload,
    load_key,
    private_bytes,
    public_bytes,
    public_of,
    read_certificate,
    with_key,
)
from shared.bus import outbox
from shared.db.pool import Connection, Pool, connected, transaction
from shared.events.base import uuid7
from shared.events.pushes import PushCertificateChanged
from shared.runtime import auditing
from shared.runtime.charging import Charge, charge_surely
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.internal import InternalClient
from shared.runtime.problems import Problem
from shared.sealed import LocalCipher

__all__ = ["Certificates", "PushCertificate", "days_left"]

PERMISSION = "push.certificate"
NOBODY = "0" * 64
"""A token that APNs gives to no device."""
_FORMER = "former_push_certificate"


@dataclass(frozen=True)
class _Standing:
    """What a new certificate would take the place of: the topic that new profiles name, and the
    certificate of its own topic.
    """

    topic: str | None
    same: PushCertificate | None


class Certificates:
    def __init__(
        self,
        pool: Pool,
        cipher: LocalCipher,
        internal: InternalClient,
        settings: PushSettings,
        clock: Clock,
    ) -> None:
        self._pool, self._cipher, self._internal = pool, cipher, internal
        self._settings, self._clock = settings, clock
        self._senders: dict[str, tuple[str, Apns]] = {}

    async def request(self, who: Caller) -> str:
        """A new key and its CSR (PEM), to be signed through Apple's push certificate portal."""
        # Up to a second of CPU, for which nobody else should wait.
        key = await asyncio.to_thread(rsa.generate_private_key, 65537, 2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Muster push")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        pem = csr.public_bytes(serialization.Encoding.PEM).decode()
        request_id, public = uuid7(), public_bytes(key)
        secret = self._cipher.encrypt(
            private_bytes(key), table="certificate_request", column="key", row=str(request_id)
        )
        async with transaction(self._pool) as tx:
            await certificates.add_request(tx, request_id, pem, secret, public, self._clock.now())
            await auditing.record(
                tx, who, PERMISSION, "push.certificate_requested", "push-certificate", before={}
            )
        return pem

    async def upload(
        self, pem: str, private_key: str | None, who: Caller, *, replace: bool
    ) -> PushCertificate:
        """Take a signed certificate into use.

        Refused: without its key, expired, not a push certificate, not taken by APNs, or with
        another topic than the one devices were enrolled under (they could never be woken again)
        unless `replace` is set.
        """
        certificate, topic = read_certificate(pem, self._clock.now())
        if private_key is not None:
            key = load_key(private_key)
        else:
            async with connected(self._pool) as connection:
                key = await self._requested_key(connection, certificate)
        new = with_key(certificate, pem, topic, key)
        standing = await self._standing(new)
        if standing.topic and standing.topic != new.topic and not replace:
            raise Problem(
                409,
                "push_topic_differs",
                f"This certificate's topic is {new.topic}, devices are enrolled under "
                f"{standing.topic}. Renew the old certificate with the same Apple account; a new "
                "topic means enrolling every device again (then send replace_topic).",
            )
        if standing.same and standing.same.fingerprint == new.fingerprint and standing.same.current:
            return standing.same
        tried_at = await self._tried(new, first=standing.topic is None)
        if standing.topic is not None:
            act = Charge(uuid7(), "replacing the push certificate", who.actor)
            await charge_surely(self._internal, act)
        return await self._put(new, standing, tried_at, who, "push.certificate_changed")

    async def go_back(self, fingerprint: str, who: Caller) -> PushCertificate:
        """Use one again that was replaced: one step, and no charge, as it undoes one."""
        async with connected(self._pool) as connection:
            found = await certificates.kept(connection, fingerprint)
        if found is None:
            raise Problem(404, "certificate_unknown", "No such certificate is kept here.")
        certificate, topic = read_certificate(found.certificate, self._clock.now())
        new = Upload(certificate, found.certificate, self._key_of(found), topic)
        standing = await self._standing(new)
        tried_at = await self._tried(new, first=False)
        return await self._put(new, standing, tried_at, who, "push.certificate_restored")

    async def _standing(self, new: Upload) -> _Standing:
        async with transaction(self._pool) as tx:
            return await _standing(tx, new.topic)

    async def _tried(self, new: Upload, *, first: bool) -> datetime | None:
        """When APNs took it; None: it did not say, which only the first may be used without."""
        answer = await self._try(new.topic, new.pem, new.key_pem)
        opinion = judge(answer)
        if opinion is Opinion.REFUSED:
            why = f"APNs does not take this certificate, nothing was changed: {_said(answer)}."
            raise Problem(422, "push_certificate_refused", why)
        if opinion is Opinion.TAKEN:
            return self._clock.now()
        if first:
            return None
        why = (
            "A push certificate is replaced only by one that APNs takes, and APNs does not say now "
            f"({_said(answer)}). Nothing was changed: send it again later."
        )
        raise Problem(503, "apns_silent", why)

    async def _put(
        self,
        new: Upload,
        standing: _Standing,
        tried_at: datetime | None,
        who: Caller,
        action: str,
    ) -> PushCertificate:
        """Store what was weighed against `standing`, if it stands still."""
        stored = self._row(new, tried_at, who.actor)
        async with transaction(self._pool) as tx:
            await certificates.lock(tx)
            if await _standing(tx, new.topic) != standing:
                detail = (
                    "Somebody else changed the push certificate meanwhile. Look, and try again."
                )
                raise Problem(409, "push_certificate_moved", detail)
            same = standing.same
            if same is not None and same.fingerprint != stored.fingerprint:
                await certificates.keep_former(tx, self._former(same))
            await certificates.store(tx, stored)
            await attempts.close_circuits(tx, [stored.topic])
            await outbox.emit(tx, [_changed(stored, standing)])
            await auditing.record(
                tx,
                who,
                PERMISSION,
                action,
                "push-certificate",
                before={"topic": standing.topic, "fingerprint": same and same.fingerprint},
                after={"topic": stored.topic, "fingerprint": stored.fingerprint},
            )
        self._measure(stored)
        return stored

    async def _try(self, topic: str, pem: str, key: bytes) -> Answer:
        """One push to nobody, over a connection of its own."""
        apns = self._way(pem, key, connections=1)
        try:
            return await apns.wake(topic, NOBODY, "none", push_id=str(uuid4()), lifetime=0)
        finally:
            apns.close()

    async def try_untried(self) -> None:
        """The first certificate may be older than the way to APNs: ask until APNs has said."""
        async with connected(self._pool) as connection:
            found = [row for row in await certificates.all_of_them(connection) if not row.tried_at]
        for row in found:
            if judge(await self._try(row.topic, row.certificate, self._key_of(row))) is (
                Opinion.TAKEN
            ):
                async with transaction(self._pool) as tx:
                    await certificates.tried(tx, row.fingerprint, self._clock.now())

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
        settings = self._settings
        apns = self._way(found.certificate, self._key_of(found), settings.apns_connections)
        if known:
            known[1].close()
        self._senders[topic] = (found.fingerprint, apns)
        return apns

    def _way(self, pem: str, key: bytes, connections: int) -> Apns:
        settings = self._settings
        return Apns(
            client_context(pem, key, settings.apns_trust),
            host=settings.apns_host,
            port=settings.apns_port,
            connections=connections,
            timeout=settings.send_timeout,
        )

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

    async def _requested_key(
        self, connection: Connection, certificate: x509.Certificate
    ) -> PrivateKeyTypes:
        found = await certificates.request_for_key(connection, public_of(certificate))
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

    def _key_of(self, row: PushCertificate | FormerCertificate) -> bytes:
        if isinstance(row, FormerCertificate):
            return self._cipher.decrypt(row.key, table=_FORMER, column="key", row=row.fingerprint)
        return self._cipher.decrypt(row.key, table="push_certificate", column="key", row=row.topic)

    def _former(self, row: PushCertificate) -> FormerCertificate:
        """As it is kept: its key is bound to its place."""
        key = self._cipher.encrypt(
            self._key_of(row), table=_FORMER, column="key", row=row.fingerprint
        )
        return FormerCertificate(
            fingerprint=row.fingerprint,
            topic=row.topic,
            certificate=row.certificate,
            key=key,
            not_after=row.not_after,
            uploaded_at=row.uploaded_at,
            uploaded_by=row.uploaded_by,
            replaced_at=self._clock.now(),
        )

    def _row(self, new: Upload, tried_at: datetime | None, actor: str) -> PushCertificate:
        key = self._cipher.encrypt(
            new.key_pem, table="push_certificate", column="key", row=new.topic
        )
        return PushCertificate(
            topic=new.topic,
            certificate=new.pem,
            key=key,
            fingerprint=new.fingerprint,
            not_after=new.certificate.not_valid_after_utc,
            current=True,
            uploaded_at=self._clock.now(),
            uploaded_by=actor,
            tried_at=tried_at,
        )


def days_left(row: PushCertificate | FormerCertificate, now: datetime) -> int:
    return (row.not_after - now).days


async def _standing(tx: Connection, topic: str) -> _Standing:
    return _Standing(await certificates.current_topic(tx), await certificates.one(tx, topic))


def _said(answer: Answer) -> str:
    return f"{answer.status} {answer.reason}".removeprefix("0 ")


def _changed(row: PushCertificate, standing: _Standing) -> PushCertificateChanged:
    return PushCertificateChanged(
        topic=row.topic,
        fingerprint=row.fingerprint,
        not_after=row.not_after,
        current=row.current,
        former_topic=standing.topic,
        by=row.uploaded_by,
    )
