"""Who issued a leaf, and when it is valid."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.apple.certificates import Issuers, fingerprint
from shared.apple.cms.verifying import Verified

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def authority(text: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, issue(key, text, text, key, usage=None)


def issue(
    signer: ec.EllipticCurvePrivateKey,
    issuer: str,
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CLIENT_AUTH,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder(name(issuer), name(subject), key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def encoded(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def test_only_the_signer_of_a_leaf_is_its_issuer() -> None:
    first_key, first = authority("CA")
    second_key, second = authority("CA")
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    issuers = Issuers([first, second])
    ours = encoded(issue(second_key, "CA", "leaf", leaf_key))
    for _ in range(2):  # the second time from the cache
        assert issuers.issued_by(ours) == second
    assert Issuers([first]).issued_by(ours) is None
    assert issuers.issued_by(encoded(issue(leaf_key, "CA", "leaf", leaf_key))) is None
    assert issuers.issued_by(encoded(issue(first_key, "other", "leaf", leaf_key))) is None
    assert issuers.issued_by(b"junk") is None


def test_a_leaf_must_be_for_clients() -> None:
    key, ca = authority("CA")
    for usage in (None, ExtendedKeyUsageOID.SERVER_AUTH):
        assert Issuers([ca]).issued_by(encoded(issue(key, "CA", "leaf", key, usage))) is None


def test_the_cache_is_bounded() -> None:
    key, ca = authority("CA")
    issuers = Issuers([ca], capacity=2)
    for number in range(5):
        assert issuers.issued_by(encoded(issue(key, "CA", f"leaf {number}", key))) == ca
    assert len(issuers._known) == 2


def test_the_signer_s_validity_includes_both_ends() -> None:
    end = NOW + timedelta(days=1)
    verified = Verified(b"", b"", None, "sha256", NOW, end)
    assert verified.is_valid_at(NOW)
    assert verified.is_valid_at(end)
    assert not verified.is_valid_at(NOW - timedelta(seconds=1))
    assert not verified.is_valid_at(end + timedelta(seconds=1))


def test_the_fingerprint_is_of_the_whole_certificate() -> None:
    _, ca = authority("CA")
    assert fingerprint(encoded(ca)) == hashlib.sha256(encoded(ca)).digest()
