"""Who signed this: from the Mdm-Signature header to the enrollment it speaks for.

The order is fixed (security.md, The edge): decode, look the certificate up, and only for one that
has a row the public-key work. A certificate without a row opens nothing, so nobody needs to know
who signed it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
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
from shared.runtime.latest import Latest

_REMEMBERED = 4096
_REMEMBERED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Proof:
    """`remembered`: the pin as this process itself stored it a moment ago, not as it is now."""

    pin: Pin
    remembered: bool = False


class Identities:
    """Proves who sent a check-in; concurrent look-ups share one query.

    Who has just authenticated here is remembered once: nearly always its TokenUpdate comes next,
    and that is decided under the device's lock, by what stands there then.
    """

    def __init__(self, pool: Pool, settings: EnrollmentSettings, clock: Clock) -> None:
        self._clock = clock
        self._allow_sha1 = settings.allow_sha1
        self._max_age = timedelta(seconds=settings.signature_max_age)
        self._pins: Batcher[bytes, Pin | None] = Batcher(
            "enrollment.pins", pool, _read, key=bytes, parallel=2, reads=True, turn=True
        )
        self._remembered: Latest[bytes, tuple[float, Pin]] = Latest(_REMEMBERED)

    def remember(self, pin: Pin) -> None:
        """It has just authenticated; the oldest of too many is forgotten."""
        self._remembered[pin.sha256] = (time.monotonic(), pin)

    async def prove(self, header: str | None, body: bytes) -> Proof:
        """Return the pin behind a signature over `body`; raises Refused.

        The enrollment may have ended, and the ids in the body are not compared yet. A remembered
        pin will do for what looks again with the device locked, else it needs `afresh`.
        """
        if not header:
            raise Refused("signature_missing", "the request is not signed")
        try:
            signed = cms.decode(header)
        except SignatureError as error:
            raise Refused("signature_bad", error.reason) from None
        remembered = self._recall(signed.fingerprint)
        pin = remembered or await self._look_up(signed.fingerprint)
        try:
            verified = cms.verify(signed, body, allow_sha1=self._allow_sha1)
        except SignatureError as error:
            raise Refused("signature_bad", error.reason) from None
        now = self._clock.now()
        if pin.revoked:
            raise _revoked()
        if not pin.not_before <= now <= pin.not_after:
            raise Refused("certificate_expired", "the certificate is not valid now")
        if verified.signed_at is not None and verified.signed_at < now - self._max_age:
            raise Refused("signature_old", "the signature was made too long ago")
        return Proof(pin, remembered is not None)

    async def afresh(self, proof: Proof) -> Pin:
        """The pin as it is now; raises Refused."""
        if not proof.remembered:
            return proof.pin
        pin = await self._look_up(proof.pin.sha256)
        if pin.revoked:
            raise _revoked()
        return pin

    def _recall(self, fingerprint: bytes) -> Pin | None:
        """Once: whatever the device says next, it is looked up after that."""
        since, pin = self._remembered.pop(fingerprint, (0.0, None))
        return pin if pin and time.monotonic() - since <= _REMEMBERED_SECONDS else None

    async def _look_up(self, fingerprint: bytes) -> Pin:
        pin = await self._pins.put(fingerprint)
        if pin is None:
            raise Refused("certificate_unknown", "no such certificate was issued or imported")
        return pin

    async def close(self) -> None:
        await self._pins.close()


def _revoked() -> Refused:
    return Refused("certificate_revoked", "the certificate is revoked")


async def _read(tx: Connection, fingerprints: Sequence[bytes]) -> list[Pin | None]:
    found = await pins.read(tx, fingerprints)
    return [found.get(fingerprint) for fingerprint in fingerprints]
