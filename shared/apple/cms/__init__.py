"""CMS SignedData (RFC 5652): read and verify what devices sign, sign what devices read.

The order of use on a device route: `decode` (no public-key work), compare the fingerprint with the
pin, then `verify` over the HTTP body.
"""

from __future__ import annotations

from shared.apple.cms.reading import Signed, decode, decode_der, open_signed
from shared.apple.cms.signing import SigningKey, degenerate, sign
from shared.apple.cms.structures import SignatureError
from shared.apple.cms.verifying import Verified, acceptable_key, verify

__all__ = [
    "SignatureError",
    "Signed",
    "SigningKey",
    "Verified",
    "acceptable_key",
    "decode",
    "decode_der",
    "degenerate",
    "open_signed",
    "sign",
    "verify",
]
