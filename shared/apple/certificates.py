"""Certificates: fingerprints, validity against a given clock, and who issued a leaf."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

_CACHE_SIZE: Final = 65_536

UNREADABLE: Final = (
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises over X.509 structures of strangers: not all of it is a ValueError."""


def fingerprint(certificate: bytes) -> bytes:
    """Return the SHA-256 of a certificate's DER: what Muster pins."""
    return hashlib.sha256(certificate).digest()


def allows_client_authentication(certificate: x509.Certificate) -> bool:
    """Whether the certificate's extended key usage names client authentication."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage


class Issuers:
    """A fixed set of CA certificates; what was found for a leaf is remembered by its hash.

    Make a new one when the set changes. Safe in one event loop; not shared between threads.
    """

    def __init__(
        self, authorities: Iterable[x509.Certificate], *, capacity: int = _CACHE_SIZE
    ) -> None:
        self._authorities = tuple(authorities)
        self._capacity = capacity
        self._known: OrderedDict[bytes, x509.Certificate | None] = OrderedDict()

    def issued_by(self, leaf: bytes) -> x509.Certificate | None:
        """Return the authority that signed this leaf (DER) for client authentication, or None.

        Time is not judged here: a leaf may expire while it is remembered.
        """
        key = fingerprint(leaf)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        found = self._search(leaf)
        self._known[key] = found
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return found

    def _search(self, leaf: bytes) -> x509.Certificate | None:
        try:
            certificate = x509.load_der_x509_certificate(leaf)
            if not allows_client_authentication(certificate):
                return None
        except UNREADABLE:
            return None
        for authority in self._authorities:
            try:
                certificate.verify_directly_issued_by(authority)
            except (TypeError, InvalidSignature, *UNREADABLE):
                continue
            return authority
        return None
