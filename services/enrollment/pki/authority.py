"""The CA and the certificates it issues to Muster itself.

RSA throughout where a device must understand it: SCEP clients read only RSA from GetCACert
(apple.md §1.12, note 4). The CA has 3072 bits: 128-bit strength for its many years, at half the
signing time of 4096, which an enrollment wave pays once a device.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID as Access
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.apple.cms import SigningKey

BACKDATE: Final = timedelta(minutes=5)
"""Devices' clocks run behind: a certificate is valid from a little before it was made."""
SERIAL_BITS: Final = 128
_CA_BITS: Final = 3072
_RSA_BITS: Final = 2048
_EXPONENT: Final = 65537


@dataclass(frozen=True)
class KeyPair:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: SigningKey

    @classmethod
    def load(cls, certificate: bytes, key: bytes) -> KeyPair:
        """Read a DER certificate and an unencrypted PKCS#8 DER key."""
        loaded = serialization.load_der_private_key(key, password=None)
        if not isinstance(loaded, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise TypeError("neither an RSA nor an EC key")
        return cls(x509.load_der_x509_certificate(certificate), loaded)

    @property
    def certificate_bytes(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def key_bytes(self) -> bytes:
        """PKCS#8 DER, not encrypted: encrypt before storing."""
        return self.key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


@dataclass(frozen=True)
class Addresses:
    """Where relying parties find the CRL, the OCSP responder and the CA certificate."""

    crl: str
    ocsp: str
    ca: str

    @classmethod
    def under(cls, public_url: str, name: str) -> Addresses:
        """The permanent addresses (architecture §4) of the authority called `name`."""
        base = public_url.rstrip("/")
        return cls(f"{base}/pki/crl/{name}.crl", f"{base}/pki/ocsp", f"{base}/pki/ca/{name}.cer")


def create_authority(name: str, organization: str, *, now: datetime, years: int) -> KeyPair:
    """Create a self-signed RSA-3072 CA that may sign leaves and CRLs, but no other CA."""
    key = rsa.generate_private_key(_EXPONENT, _CA_BITS)
    subject = _name(name, organization)
    ski = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = _builder(subject, subject, key, now, timedelta(days=365 * years))
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(ski, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False
        )
    )
    return KeyPair(builder.sign(key, hashes.SHA256()), key)


def create_registration_authority(
    authority: KeyPair, organization: str, addresses: Addresses, *, now: datetime
) -> KeyPair:
    """Create the RA: SCEP clients encrypt to it and check its answers, never the CA's key."""
    return _issue(
        authority,
        _name("SCEP Registration Authority", organization),
        rsa.generate_private_key(_EXPONENT, _RSA_BITS),
        now=now,
        lifetime=timedelta(days=3 * 365),
        usage=key_usage("digital_signature", "key_encipherment"),
        extensions=access_extensions(addresses),
    )


def create_ocsp_responder(authority: KeyPair, organization: str, *, now: datetime) -> KeyPair:
    """Create a delegated OCSP responder (RFC 6960 §4.2.2.2): 90 days, as nobody can revoke it."""
    return _issue(
        authority,
        _name("OCSP Responder", organization),
        ec.generate_private_key(ec.SECP256R1()),
        now=now,
        lifetime=timedelta(days=90),
        usage=key_usage("digital_signature"),
        extensions=(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]),
            x509.OCSPNoCheck(),
        ),
    )


def create_profile_signer(
    authority: KeyPair, organization: str, addresses: Addresses, *, now: datetime
) -> KeyPair:
    """Create the certificate that signs enrollment profiles.

    Its extended key usage is e-mail protection: what CMS verifiers ask of a signer by default.
    """
    return _issue(
        authority,
        _name("Profile Signing", organization),
        rsa.generate_private_key(_EXPONENT, _RSA_BITS),
        now=now,
        lifetime=timedelta(days=2 * 365),
        usage=key_usage("digital_signature"),
        extensions=(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]),
            *access_extensions(addresses),
        ),
    )


def create_server(authority: KeyPair, hosts: Sequence[str], *, now: datetime) -> KeyPair:
    """Create a TLS server certificate for host names and addresses, for at most 397 days."""
    return _issue(
        authority,
        _name(hosts[0], None),
        ec.generate_private_key(ec.SECP256R1()),
        now=now,
        lifetime=timedelta(days=397),
        usage=key_usage("digital_signature"),
        extensions=(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
            x509.SubjectAlternativeName([_host(host) for host in hosts]),
        ),
    )


def access_extensions(addresses: Addresses) -> tuple[x509.ExtensionType, ...]:
    """CRL distribution point and authority information access, for every leaf."""
    crl = x509.DistributionPoint(
        full_name=[x509.UniformResourceIdentifier(addresses.crl)],
        relative_name=None,
        reasons=None,
        crl_issuer=None,
    )
    return (
        x509.CRLDistributionPoints([crl]),
        x509.AuthorityInformationAccess(
            [
                x509.AccessDescription(Access.OCSP, x509.UniformResourceIdentifier(addresses.ocsp)),
                x509.AccessDescription(
                    Access.CA_ISSUERS, x509.UniformResourceIdentifier(addresses.ca)
                ),
            ]
        ),
    )


def random_serial() -> int:
    """Return a random positive serial number of at most 128 bits."""
    return secrets.randbits(SERIAL_BITS) or 1


def key_usage(*names: str) -> x509.KeyUsage:
    """Return a KeyUsage with exactly the named bits set."""
    bits = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{bit: bit in names for bit in bits})


def _issue(
    authority: KeyPair,
    subject: x509.Name,
    key: SigningKey,
    *,
    now: datetime,
    lifetime: timedelta,
    usage: x509.KeyUsage,
    extensions: Sequence[x509.ExtensionType],
) -> KeyPair:
    issuer = authority.certificate
    builder = _builder(
        issuer.subject, subject, key, now, lifetime, latest=issuer.not_valid_after_utc
    )
    return KeyPair(sign_leaf(authority, builder, key.public_key(), usage, extensions), key)


def sign_leaf(
    authority: KeyPair,
    builder: x509.CertificateBuilder,
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    usage: x509.KeyUsage,
    extensions: Sequence[x509.ExtensionType],
) -> x509.Certificate:
    """Add what every leaf carries, and sign."""
    ski = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski.value)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(aki, critical=False)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def _builder(
    issuer: x509.Name,
    subject: x509.Name,
    key: SigningKey,
    now: datetime,
    lifetime: timedelta,
    latest: datetime | None = None,
) -> x509.CertificateBuilder:
    end = now + lifetime
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), random_serial())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(end if latest is None else min(end, latest))
    )


def _name(common_name: str, organization: str | None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
