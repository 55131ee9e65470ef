"""What somebody brings as a push certificate: read, and held against its private key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID

from shared.runtime.problems import Problem

_TOPIC_PREFIX = "com.apple.mgmt."
_SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class Upload:
    """A certificate with the private key that proves it ours."""

    certificate: x509.Certificate
    pem: str
    key_pem: bytes
    topic: str

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()


def read_certificate(pem: str, now: datetime) -> tuple[x509.Certificate, str]:
    """The certificate and its topic; raises Problem for what cannot wake a device now."""
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
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        raise Problem(422, "certificate_not_valid_now", "This certificate is not valid now.")
    return certificate, topic


def load_key(pem: str) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        raise Problem(422, "key_unreadable", "Send the private key as unencrypted PEM.") from None


def with_key(certificate: x509.Certificate, pem: str, topic: str, key: PrivateKeyTypes) -> Upload:
    """Raises Problem when the key is another certificate's."""
    if public_bytes(key) != public_of(certificate):
        raise Problem(422, "key_differs", "The private key is not this certificate's.")
    return Upload(certificate, pem, private_bytes(key), topic)


def private_bytes(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_bytes(key: PrivateKeyTypes) -> bytes:
    return key.public_key().public_bytes(*_SPKI)


def public_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(*_SPKI)
