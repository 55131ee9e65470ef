"""A SCEP authority for tests: OpenSSL's command line does the cryptography, a declarative parser
the ASN.1. Nothing is shared with the simulator's own writing of the same messages."""

from __future__ import annotations

import subprocess
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID

DATA, SIGNED = x509.ObjectIdentifier("1.2.840.113549.1.7.1"), "1.2.840.113549.1.7.2"
SHA256 = x509.ObjectIdentifier("2.16.840.1.101.3.4.2.1")
RSA = x509.ObjectIdentifier("1.2.840.113549.1.1.1")
CIPHERS = {
    "1.3.14.3.2.7": "-des",
    "1.2.840.113549.3.7": "-des3",
    "2.16.840.1.101.3.4.1.2": "-aes128",
    "2.16.840.1.101.3.4.1.42": "-aes256",
}
LEGACY = ("-provider", "default", "-provider", "legacy")


@asn1.sequence
class Algorithm:
    oid: x509.ObjectIdentifier
    null: asn1.Null | None


@asn1.sequence
class Attribute:
    oid: x509.ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class Issuer:
    name: asn1.TLV
    serial: int


@asn1.sequence
class SignerInfo:
    version: int
    issuer: Issuer
    digest: Algorithm
    attributes: Annotated[asn1.SetOf[Attribute] | None, asn1.Implicit(0)]
    algorithm: Algorithm
    signature: bytes


@asn1.sequence
class Encapsulated:
    oid: x509.ObjectIdentifier
    content: Annotated[bytes | None, asn1.Explicit(0)]


@asn1.sequence
class SignedData:
    version: int
    digests: asn1.SetOf[Algorithm]
    encapsulated: Encapsulated
    certificates: Annotated[asn1.SetOf[x509.Certificate] | None, asn1.Implicit(0)]
    signers: asn1.SetOf[SignerInfo]


@asn1.sequence
class ContentInfo:
    oid: x509.ObjectIdentifier
    content: Annotated[SignedData, asn1.Explicit(0)]


def scep_oid(last: int) -> x509.ObjectIdentifier:
    return x509.ObjectIdentifier(f"2.16.840.1.113733.1.9.{last}")


def openssl(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    """Run OpenSSL; a failure is a ValueError with what it said."""
    done = subprocess.run(
        ["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=False, timeout=30
    )
    if done.returncode:
        raise ValueError(done.stderr.decode("utf-8", "replace"))
    return done.stdout


def pem(value: x509.Certificate | rsa.RSAPrivateKey) -> bytes:
    if isinstance(value, x509.Certificate):
        return value.public_bytes(serialization.Encoding.PEM)
    return value.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@dataclass(frozen=True)
class Party:
    key: rsa.RSAPrivateKey
    certificate: x509.Certificate


def issue(
    public: rsa.RSAPublicKey,
    name: x509.Name,
    issuer: Party | None,
    key: rsa.RSAPrivateKey,
    *extensions: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(issuer.key if issuer else key, hashes.SHA256())


def usage(**allowed: bool) -> x509.KeyUsage:
    names = [
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ]
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


def named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def make_authority() -> tuple[Party, Party]:
    """A CA and its separate RA."""
    ca_key = rsa.generate_private_key(65537, 2048)
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    signs = usage(key_cert_sign=True, crl_sign=True)
    ca_certificate = issue(ca_key.public_key(), named("test CA"), None, ca_key, constraints, signs)
    ca = Party(ca_key, ca_certificate)
    ra_key = rsa.generate_private_key(65537, 2048)
    enciphers = usage(digital_signature=True, key_encipherment=True)
    ra_certificate = issue(
        ra_key.public_key(),
        named("test RA"),
        ca,
        ca_key,
        x509.BasicConstraints(ca=False, path_length=None),
        enciphers,
    )
    return ca, Party(ra_key, ra_certificate)


@dataclass
class ScepAuthority:
    """Answers SCEP operations. `seen` records what each request used."""

    folder: Path
    ca: Party
    ra: Party
    capabilities: str = "Renewal\nSHA-1\nSHA-256\nAES\nDES3\nSCEPStandard\nPOSTPKIOperation\n"
    list_of_certificates: bool = True
    challenges: set[str] = field(default_factory=set)
    issued: list[x509.Certificate] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    break_nonce: bool = False
    break_signature: bool = False

    def __post_init__(self) -> None:
        for name, party in (("ca", self.ca), ("ra", self.ra)):
            (self.folder / f"{name}.pem").write_bytes(pem(party.certificate))
            (self.folder / f"{name}.key").write_bytes(pem(party.key))

    def certificates(self) -> tuple[bytes, str]:
        if not self.list_of_certificates:
            der = self.ca.certificate.public_bytes(serialization.Encoding.DER)
            return der, "application/x-x509-ca-cert"
        both = [self.ra.certificate, self.ca.certificate]
        der = pkcs7.serialize_certificates(both, serialization.Encoding.DER)
        return der, "application/x-x509-ca-ra-cert"

    def operate(self, message: bytes) -> bytes:
        """Decide one pkiMessage: a certificate, or a signed failure."""
        signed = asn1.decode_der(ContentInfo, message).content
        signer = signed.signers.as_list()[0]
        assert signer.attributes is not None
        attributes = {one.oid: one.values.as_list()[0] for one in signer.attributes.as_list()}
        kind = attributes[scep_oid(2)].parse(asn1.PrintableString).as_str()
        nonce = attributes[scep_oid(5)].parse(bytes)
        transaction = attributes[scep_oid(7)].parse(asn1.PrintableString)
        verified = ["cms", "-verify", "-noverify", "-binary", "-inform", "DER"]
        client = self.folder / f"client-{uuid.uuid4()}.pem"
        enveloped = openssl(*verified, "-signer", client, stdin=message)
        recipient = self.ra if self.list_of_certificates else self.ca
        csr_der, cipher = self._open(enveloped)
        csr = x509.load_der_x509_csr(csr_der)
        assert csr.is_signature_valid
        certificate = x509.load_pem_x509_certificate(client.read_bytes())
        self.seen.append(
            {"type": kind, "cipher": cipher, "digest": signer.digest.oid.dotted_string}
        )
        if not self._allows(kind, csr, certificate):
            return self._reply(recipient, transaction, nonce, None)
        return self._reply(recipient, transaction, nonce, self._seal(csr, client, cipher))

    def _open(self, enveloped: bytes) -> tuple[bytes, str]:
        name = "ra" if self.list_of_certificates else "ca"
        printed = openssl("cms", "-cmsout", "-print", "-inform", "DER", stdin=enveloped).decode()
        cipher = next(option for oid, option in CIPHERS.items() if f"({oid})" in printed)
        opened = openssl(
            *(
                "cms",
                "-decrypt",
                "-binary",
                "-inform",
                "DER",
                "-recip",
                self.folder / f"{name}.pem",
            ),
            *("-inkey", self.folder / f"{name}.key", *LEGACY),
            stdin=enveloped,
        )
        return opened, cipher

    def _allows(
        self, kind: str, csr: x509.CertificateSigningRequest, signer: x509.Certificate
    ) -> bool:
        if kind == "17":
            return signer in self.issued
        found = [one for one in csr.attributes if one.oid == AttributeOID.CHALLENGE_PASSWORD]
        challenge = found[0].value.decode() if found else ""
        if challenge not in self.challenges:
            return False
        self.challenges.remove(challenge)
        return signer.issuer == signer.subject

    def _seal(self, csr: x509.CertificateSigningRequest, client: Path, cipher: str) -> bytes:
        public = csr.public_key()
        assert isinstance(public, rsa.RSAPublicKey)
        leaf = issue(
            public,
            named(f"device {len(self.issued) + 1}"),
            self.ca,
            self.ca.key,
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
        )
        self.issued.append(leaf)
        degenerate = pkcs7.serialize_certificates([leaf], serialization.Encoding.DER)
        encrypting = ("cms", "-encrypt", "-binary", "-outform", "DER", cipher, *LEGACY)
        return openssl(*encrypting, client, stdin=degenerate)

    def _reply(
        self, signer: Party, transaction: asn1.PrintableString, nonce: bytes, content: bytes | None
    ) -> bytes:
        hasher = hashes.Hash(hashes.SHA256())
        hasher.update(content or b"")
        values: dict[x509.ObjectIdentifier, object] = {
            x509.ObjectIdentifier("1.2.840.113549.1.9.3"): DATA,
            x509.ObjectIdentifier("1.2.840.113549.1.9.4"): hasher.finalize(),
            scep_oid(2): asn1.PrintableString("3"),
            scep_oid(3): asn1.PrintableString("0" if content else "2"),
            scep_oid(6): b"\0" * 16 if self.break_nonce else nonce,
            scep_oid(7): transaction,
        }
        if not content:
            values[scep_oid(4)] = asn1.PrintableString("2")
        attributes = asn1.SetOf(
            [
                Attribute(
                    oid=oid, values=asn1.SetOf([asn1.decode_der(asn1.TLV, asn1.encode_der(value))])
                )
                for oid, value in values.items()
            ]
        )
        covered = asn1.encode_der(attributes)
        if self.break_signature:
            covered += b"\0"
        info = SignerInfo(
            version=1,
            issuer=Issuer(
                name=asn1.decode_der(asn1.TLV, signer.certificate.issuer.public_bytes()),
                serial=signer.certificate.serial_number,
            ),
            digest=Algorithm(oid=SHA256, null=asn1.Null()),
            attributes=attributes,
            algorithm=Algorithm(oid=RSA, null=asn1.Null()),
            signature=signer.key.sign(covered, padding.PKCS1v15(), hashes.SHA256()),
        )
        signed = SignedData(
            version=1,
            digests=asn1.SetOf([Algorithm(oid=SHA256, null=asn1.Null())]),
            encapsulated=Encapsulated(oid=DATA, content=content),
            certificates=asn1.SetOf([signer.certificate]),
            signers=asn1.SetOf([info]),
        )
        return asn1.encode_der(ContentInfo(oid=x509.ObjectIdentifier(SIGNED), content=signed))
