"""The outer ASN.1 of SignedData (RFC 5652 §5), and its object identifiers.

`TLV` stands for what is not looked at. Lists stand for some SET OFs: writers in the field do not
sort them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1

DATA: Final = "1.2.840.113549.1.7.1"
SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
CONTENT_TYPE: Final = x509.ObjectIdentifier("1.2.840.113549.1.9.3")
MESSAGE_DIGEST: Final = x509.ObjectIdentifier("1.2.840.113549.1.9.4")
SIGNING_TIME: Final = x509.ObjectIdentifier("1.2.840.113549.1.9.5")

SHA1: Final = "1.3.14.3.2.26"
SHA256: Final = "2.16.840.1.101.3.4.2.1"
SHA384: Final = "2.16.840.1.101.3.4.2.2"
SHA512: Final = "2.16.840.1.101.3.4.2.3"

RSA: Final = "1.2.840.113549.1.1.1"
RSA_SHA1: Final = "1.2.840.113549.1.1.5"
RSA_SHA1_OIW: Final = "1.3.14.3.2.29"
RSA_PSS: Final = "1.2.840.113549.1.1.10"
RSA_SHA256: Final = "1.2.840.113549.1.1.11"
RSA_SHA384: Final = "1.2.840.113549.1.1.12"
RSA_SHA512: Final = "1.2.840.113549.1.1.13"
EC: Final = "1.2.840.10045.2.1"
ECDSA_SHA1: Final = "1.2.840.10045.4.1"
ECDSA_SHA256: Final = "1.2.840.10045.4.3.2"
ECDSA_SHA384: Final = "1.2.840.10045.4.3.3"
ECDSA_SHA512: Final = "1.2.840.10045.4.3.4"

DIGESTS: Final = {SHA1: "sha1", SHA256: "sha256", SHA384: "sha384", SHA512: "sha512"}
# Signature algorithm -> (key family, the hash it names or None where it names none).
SCHEMES: Final[Mapping[str, tuple[str, str | None]]] = {
    RSA: ("rsa", None),
    RSA_SHA1: ("rsa", "sha1"),
    RSA_SHA1_OIW: ("rsa", "sha1"),
    RSA_SHA256: ("rsa", "sha256"),
    RSA_SHA384: ("rsa", "sha384"),
    RSA_SHA512: ("rsa", "sha512"),
    RSA_PSS: ("pss", None),
    EC: ("ec", None),
    ECDSA_SHA1: ("ec", "sha1"),
    ECDSA_SHA256: ("ec", "sha256"),
    ECDSA_SHA384: ("ec", "sha384"),
    ECDSA_SHA512: ("ec", "sha512"),
}
ALGORITHMS: Final = (*DIGESTS, *SCHEMES)


class SignatureError(ValueError):
    """The signature is absent, malformed or wrong; `reason` is short and safe to log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@asn1.sequence
class EncapsulatedContent:
    type: x509.ObjectIdentifier
    content: Annotated[bytes | None, asn1.Explicit(0)]


@asn1.sequence
class SignedData:
    version: int
    digest_algorithms: asn1.TLV
    encapsulated: EncapsulatedContent
    certificates: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    revocations: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]
    signers: asn1.SetOf[asn1.TLV]


@asn1.sequence
class SignedContent:
    """ContentInfo holding SignedData."""

    type: x509.ObjectIdentifier
    content: Annotated[SignedData, asn1.Explicit(0)]
