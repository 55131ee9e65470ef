"""What an attacker writes by hand: certificates, requests and signatures that no library makes.

Built on the simulator's own DER writer: nothing of the code under attack helps here.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from tools.simulator.wire import cms, der

SHA256_RSA = "1.2.840.113549.1.1.11"
SUBJECT_KEY_IDENTIFIER = "2.5.29.14"
ALTERNATIVE_NAME = "2.5.29.17"
CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
NONCE = "1.3.6.1.5.5.7.48.1.2"

KEY = rsa.generate_private_key(65537, 2048)
"""The attacker's; one for all, for making one takes long."""


def sign(content: bytes, key: rsa.RSAPrivateKey = KEY) -> bytes:
    return key.sign(content, padding.PKCS1v15(), hashes.SHA256())


def signed_by(inner: bytes, key: rsa.RSAPrivateKey = KEY) -> bytes:
    """The frame that certificates and certificate requests share."""
    algorithm = der.sequence(der.oid(SHA256_RSA), der.null())
    return der.sequence(inner, algorithm, der.tlv(0x03, b"\0", sign(inner, key)))


def key_identifier(key: rsa.RSAPrivateKey = KEY) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest


def extension(dotted: str, value: bytes) -> bytes:
    return der.sequence(der.oid(dotted), der.octets(value))


def certificate(
    *, version: int = 2, extensions: Sequence[bytes] | None = None, like: bytes | None = None
) -> bytes:
    """A certificate of the attacker's key; `like` lends issuer and serial number to it."""
    parts = der.read(_plain().tbs_certificate_bytes).children()
    raw = [part.raw for part in parts[:7]]
    raw[0] = der.explicit(0, der.integer(version))
    if like is not None:
        victim = der.read(der.read(like).children()[0].raw).children()
        raw[1], raw[3] = victim[1].raw, victim[3].raw
    if extensions is None:
        extensions = [extension(SUBJECT_KEY_IDENTIFIER, der.octets(key_identifier()))]
    return signed_by(der.sequence(*raw, der.explicit(3, der.sequence(*extensions))))


def _plain() -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "attacker")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(name, name, KEY.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(KEY, hashes.SHA256())
    )


def odd_certificates() -> dict[str, bytes]:
    """Certificates that parse, and then surprise whoever looks closer."""
    known = extension(SUBJECT_KEY_IDENTIFIER, der.octets(key_identifier()))
    x400 = der.sequence(der.tlv(0xA3, der.octets(b"x")))
    broken = extension("2.5.29.37", der.sequence(der.integer(1)))
    return {
        "an extension twice": certificate(extensions=[known, known]),
        "a name of an unknown kind": certificate(
            extensions=[known, extension(ALTERNATIVE_NAME, x400)]
        ),
        "a broken extension": certificate(extensions=[known, broken]),
        "no extension": certificate(extensions=[]),
        "version 2": certificate(version=1),
        "version 4": certificate(version=3),
        "version 200": certificate(version=199),
    }


@dataclass(frozen=True)
class Forgery:
    """A SignedData, every part of which can be chosen. `attributes` None: none are signed."""

    certificates: Sequence[bytes]
    attributes: Sequence[bytes] | None
    signature: bytes
    signer: bytes
    """The encoded SignerIdentifier."""
    content_type: str = cms.DATA
    content: bytes | None = None
    algorithm: bytes = der.sequence(der.oid(cms.RSA_ENCRYPTION), der.null())

    def encode(self) -> bytes:
        digest = der.sequence(der.oid(cms.DIGEST_OIDS["sha256"]), der.null())
        attributes = b""
        if self.attributes is not None:
            attributes = der.tlv(0xA0, *self.attributes)
        info = der.sequence(
            der.integer(1),
            self.signer,
            digest,
            attributes,
            self.algorithm,
            der.octets(self.signature),
        )
        embedded = b"" if self.content is None else der.explicit(0, der.octets(self.content))
        data = der.sequence(
            der.integer(1),
            der.set_of(digest),
            der.sequence(der.oid(self.content_type), embedded),
            der.tlv(0xA0, *self.certificates),
            der.set_of(info),
        )
        return der.sequence(der.oid(cms.SIGNED_DATA), der.explicit(0, data))

    def header(self) -> str:
        return base64.b64encode(self.encode()).decode()


def attributes_of(body: bytes, *more: bytes) -> list[bytes]:
    """The two attributes that a signature over `body` needs, sorted."""
    return sorted(
        [
            cms.attribute(cms.CONTENT_TYPE, der.oid(cms.DATA)),
            cms.attribute(cms.MESSAGE_DIGEST, der.octets(cms.digest("sha256", body))),
            *more,
        ]
    )


def by_name(certificate_der: bytes) -> bytes:
    """SignerIdentifier: issuer and serial number, byte for byte from the certificate."""
    parts = der.read(der.read(certificate_der).children()[0].raw).children()
    return der.sequence(parts[3].raw, parts[1].raw)


def by_key() -> bytes:
    return der.tlv(0x80, key_identifier())


def forged(
    body: bytes,
    certificates: Sequence[bytes],
    *,
    signer: bytes | None = None,
    more: Sequence[bytes] = (),
) -> Forgery:
    """A signature by the attacker's key over `body`, in the name of the first certificate."""
    attributes = attributes_of(body, *more)
    return Forgery(
        certificates=certificates,
        attributes=attributes,
        signature=sign(der.tlv(der.SET, *attributes)),
        signer=signer or by_name(certificates[0]),
    )


def encoded(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def request(
    *, key: rsa.RSAPrivateKey = KEY, version: int = 0, attributes: Sequence[bytes] = ()
) -> bytes:
    """A PKCS#10 request (DER), signed by its own key."""
    plain = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )
    parts = der.read(plain.tbs_certrequest_bytes).children()
    inner = der.sequence(
        der.integer(version), parts[1].raw, parts[2].raw, der.tlv(0xA0, *attributes)
    )
    return signed_by(inner, key)


def challenge(*values: bytes) -> bytes:
    """A challengePassword attribute with these encoded values."""
    return der.sequence(der.oid(CHALLENGE_PASSWORD), der.tlv(der.SET, *values))
