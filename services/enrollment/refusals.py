"""Who was turned away, for those who watch; bounded, so that a stranger cannot fill the log."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from services.enrollment.errors import Stage
from services.enrollment.lifecycle import Claim
from shared.bus import outbox
from shared.db.pool import Pool, transaction
from shared.events.base import uuid7
from shared.events.devices import EnrollmentRefused
from shared.runtime.clock import Clock
from shared.runtime.latest import Latest

_AGAIN_AFTER = timedelta(hours=1)
_REMEMBERED = 10_000


class Refusals:
    """Emits one event for a credential or certificate and reason, at most once an hour.

    Only what is known to us is worth an event: a credential that exists, a certificate of ours.
    """

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock
        self._told: Latest[tuple[object, str], datetime] = Latest(_REMEMBERED)

    async def record(
        self,
        stage: Stage,
        code: str,
        credential_id: UUID | None = None,
        *,
        certificate: bytes | None = None,
        claim: Claim | None = None,
        address: str | None = None,
    ) -> None:
        """`code` says why; `claim` is what an Authenticate said of itself."""
        if not self.is_news((certificate or credential_id, code)):
            return
        event = EnrollmentRefused(
            attempt_id=uuid7(),
            stage=stage,
            reason=code,
            credential_id=credential_id,
            claimed_serial=claim.serial if claim else None,
            claimed_udid=claim.udid if claim else None,
            certificate_sha256=certificate.hex() if certificate else None,
            address=claim.address if claim else address,
        )
        async with transaction(self._pool) as tx:
            await outbox.emit(tx, [event])

    def is_news(self, key: tuple[object, str]) -> bool:
        """Whether this was not asked in the last hour; it counts as told from now on."""
        now = self._clock.now()
        told = self._told.get(key)
        if told is not None and now - told < _AGAIN_AFTER:
            return False
        self._told[key] = now
        return True
