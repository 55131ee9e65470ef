"""CertificateList (schema: mdm/commands/certificate.list.yaml)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import warnings
from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from services.inventory.apple.values import entries, flag, text
from services.inventory.readings import Detail, Reading

_MAX_CERTIFICATES: Final = 2_000
_MAX_DER: Final = 32_768
_REFUSED: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


def read(answer: Mapping[str, Any]) -> Reading:
    """Read the certificates by the SHA-256 of their DER."""
    items: dict[str, Detail] = {}
    ignored = 0
    for entry in entries(answer, "CertificateList", _MAX_CERTIFICATES):
        source = entry if isinstance(entry, Mapping) else {}
        der = _bytes(source.get("Data"))
        if der is None:
            ignored += 1
            continue
        detail = {
            "common_name": text(source.get("CommonName")),
            "identity": flag(source.get("IsIdentity")),
            **_inside(der),
        }
        items[hashlib.sha256(der).hexdigest()] = {
            name: value for name, value in detail.items() if value is not None
        }
    return Reading(items=items, ignored=ignored)


def _bytes(value: Any) -> bytes | None:
    """Read a plist's data, which travels as {"$data": base64}."""
    encoded = value.get("$data") if isinstance(value, Mapping) else None
    if not isinstance(encoded, str) or not 0 < len(encoded) <= _MAX_DER * 4 // 3:
        return None
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None


def _inside(der: bytes) -> dict[str, Any]:
    """Read what the certificate itself says; nothing when it cannot be read: its hash is kept."""
    try:
        with warnings.catch_warnings():
            # Devices carry certificates that break RFC 5280 in old ways; they are shown, not used.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            certificate = x509.load_der_x509_certificate(der)
            return {
                "not_after": certificate.not_valid_after_utc.isoformat(),
                "issuer": _common_name(certificate.issuer),
                "serial_number": text(f"{certificate.serial_number:x}"),
            }
    except _REFUSED:
        return {}


def _common_name(name: x509.Name) -> str | None:
    names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return text(names[0].value) if names else None
