"""Who signed this: from the Mdm-Signature header to the enrollment it speaks for.

The order is fixed (security.md, The edge): decode, look the certificate up, and only for one that
has a row the public-key work. A certificate without a row opens nothing, so nobody needs to know
who signed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.enrollment.errors import Refused
from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store import pins
from services.enrollment.store.pins import Pin
from shared.apple import cms
from shared.apple.cms import SignatureError
from shared.db.batcher import Batcher
from shared.db.pool import Connection, Pool
from shared.runtime.clock import Clock


class Identities:
    """Proves who sent a check-in; concurrent look-ups share one query."""

    def __init__(self, pool: Pool, settings: EnrollmentSettings, clock: Clock) -> None:
        self._clock = clock
        self._allow_sha1 = settings.allow_sha1
        self._max_age = timedelta(seconds=settings.signature_max_age)
        self._pins: Batcher[bytes, Pin | None] = Batcher(
            "enrollment.pins", pool, _read, key=bytes, parallel=2, reads=True
        )

    async def prove(self, header: str | None, body: bytes) -> Pin:
        """Return the pin behind a signature over `body`; raises Refused.

        The enrollment may have ended, and the ids in the body are not compared yet.
        """
        if not header:
            raise Refused("signature_missing", "the request is not signed")
        try:
            signed = cms.decode(header)
        except SignatureError as error:
            raise Refused("signature_bad", error.reason) from None
        pin = await self._pins.put(signed.fingerprint)
        if pin is None:
            raise Refused("certificate_unknown", "no such certificate was issued or imported")
        try:
            verified = cms.verify(signed, body, allow_sha1=self._allow_sha1)
        except SignatureError as error:
            raise Refused("signature_bad", error.reason) from None
        now = self._clock.now()
        if pin.revoked:
            raise Refused("certificate_revoked", "the certificate is revoked")
        if not pin.not_before <= now <= pin.not_after:
            raise Refused("certificate_expired", "the certificate is not valid now")
        if verified.signed_at is not None and verified.signed_at < now - self._max_age:
            raise Refused("signature_old", "the signature was made too long ago")
        return pin

    async def close(self) -> None:
        await self._pins.close()


async def _read(tx: Connection, fingerprints: Sequence[bytes]) -> list[Pin | None]:
    found = await pins.read(tx, fingerprints)
    return [found.get(fingerprint) for fingerprint in fingerprints]
