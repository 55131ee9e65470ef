"""Who speaks: certificate → channel. Ids in a body are only compared (architecture §4).

The pin is looked up before any public-key work is done, for all waiting requests in one read.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from cryptography import x509

from services.command_queue.errors import PeerRefused
from services.command_queue.settings import CommandQueueSettings
from services.command_queue.store import speakers
from services.command_queue.store.speakers import Speaker
from shared.apple import cms
from shared.apple.certificates import Issuers
from shared.db.batcher import Batcher
from shared.db.pool import Connection, Pool, transaction
from shared.runtime.clock import Clock

log = logging.getLogger(__name__)

# A device's clock may be wrong by this much.
_AHEAD: Final = timedelta(hours=24)
_AUTHORITIES_FRESH: Final = timedelta(seconds=10)


class Identity:
    """Finds and proves the speaker of a request."""

    def __init__(self, pool: Pool, clock: Clock, settings: CommandQueueSettings) -> None:
        self._pool, self._clock, self._settings = pool, clock, settings
        self._lookups: Batcher[bytes, Speaker | None] = Batcher(
            "command_queue_speakers",
            pool,
            self._find,
            key=lambda fingerprint: fingerprint,
            max_batch=settings.max_batch,
            max_waiting=settings.max_waiting,
            parallel=2,
            reads=True,
        )
        self._issuers = Issuers(())
        self._issuers_of: tuple[str, ...] = ()
        self._issuers_at = clock.now() - 2 * _AUTHORITIES_FRESH

    async def close(self) -> None:
        await self._lookups.close()

    async def find(self, signed: cms.Signed) -> Speaker | None:
        """Return who is pinned to the certificate; nothing is proven yet. Raises Overloaded."""
        return await self._lookups.put(signed.fingerprint)

    def prove(self, signed: cms.Signed, body: bytes) -> None:
        """Verify the signature over the body, and that both are of now; raises PeerRefused."""
        try:
            verified = cms.verify(signed, body, allow_sha1=self._settings.accept_sha1)
        except cms.SignatureError as error:
            raise PeerRefused(f"signature: {error.reason}") from None
        now = self._clock.now()
        if not verified.is_valid_at(now):
            raise PeerRefused("certificate expired or not valid yet")
        if verified.signed_at is not None:
            age = now - verified.signed_at
            if age > timedelta(seconds=self._settings.signing_age_seconds) or age < -_AHEAD:
                raise PeerRefused("signed at another time")

    async def is_ours(self, signed: cms.Signed) -> bool:
        """Whether our CA issued a certificate that nobody is pinned to (yet)."""
        await self._refresh()
        return self._issuers.issued_by(signed.certificate) is not None

    async def knows(self, udid: str) -> bool:
        """Whether an enrollment goes by this id."""
        async with transaction(self._pool) as tx:
            return await speakers.udid_is_known(tx, udid)

    async def _refresh(self) -> None:
        """Read the trust anchors again when they may have changed; a rollover comes by event."""
        now = self._clock.now()
        if now - self._issuers_at < _AUTHORITIES_FRESH:
            return
        async with transaction(self._pool) as tx:
            published = tuple(await speakers.authorities(tx))
        self._issuers_at = now
        if published != self._issuers_of:
            found = x509.load_pem_x509_certificates("\n".join(published).encode())
            self._issuers, self._issuers_of = Issuers(found), published
            log.info("Trust anchors of devices", extra={"certificates": len(found)})

    async def _find(
        self, tx: Connection, fingerprints: Sequence[bytes]
    ) -> Sequence[Speaker | None]:
        return await speakers.find(tx, fingerprints, self._clock.now())
