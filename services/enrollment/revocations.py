"""Who is revoked, told to the world: CRLs signed by a job, OCSP answered from the row."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.enrollment import metrics
from services.enrollment.authorities import Authorities
from services.enrollment.pki import revocation
from services.enrollment.pki.revocation import Good, OcspError, Revoked
from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store import authorities as store
from services.enrollment.store import certificates
from services.enrollment.store.authorities import Crl
from shared.db.pool import Pool, connected, is_transient, transaction
from shared.runtime.clock import Clock
from shared.runtime.problems import Problem

_REASONS = {
    "check_out": "cessationOfOperation",
    "erased": "cessationOfOperation",
    "unenrolled": "cessationOfOperation",
    "superseded": "superseded",
}
"""Why management ended → RFC 5280 §5.3.1; what a person ordered is a withdrawal."""


class Revocations:
    """The published CRL and OCSP answers of the one authority."""

    def __init__(
        self, pool: Pool, authorities: Authorities, settings: EnrollmentSettings, clock: Clock
    ) -> None:
        self._pool, self._authorities, self._clock = pool, authorities, clock
        self._settings = settings
        self._last: Crl | None = None

    async def sign_due(self) -> None:
        """Sign a CRL when somebody was revoked since the last one, or that one is an hour old."""
        authority, now = self._authorities.current, self._clock.now()
        async with transaction(self._pool) as tx:
            last = await store.last_crl(tx, authority.name)
            _measure(last, now)
            fresh = last and now - last.signed_at < timedelta(seconds=self._settings.crl_every)
            if fresh and not await store.has_unlisted(tx, authority.name):
                return
            await store.take_turns(tx)
            last = await store.last_crl(tx, authority.name)
            number = last.number + 1 if last else 1
            validity = timedelta(seconds=self._settings.crl_valid)
            listed = await store.list_revoked(tx, authority.name, number, now - validity)
            entries = [
                _revoked(int(one.serial_number, 16), one.revoked_at, one.revocation_reason)
                for one in listed
            ]
            der = revocation.build_crl(
                authority.ca, entries, number=number, now=now, validity=validity
            )
            signed = Crl(authority.name, number, der, now, now + validity)
            await store.add_crl(tx, signed)
        _measure(signed, now)

    async def crl(self, name: str) -> bytes:
        """The newest CRL (DER); from memory while the database is away."""
        if name != self._authorities.current.name:
            raise Problem(404, "authority_unknown", "There is no such authority.")
        try:
            async with connected(self._pool) as connection:
                self._last = await store.last_crl(connection, name) or self._last
        except Exception as error:
            if self._last is None or not is_transient(error):
                raise
        if self._last is None:
            raise Problem(503, "crl_not_signed", "The first CRL is not signed yet.").retry_after(5)
        return self._last.der

    async def ocsp(self, data: bytes) -> bytes:
        """Answer one OCSP request (DER) with DER; a bad one gets its own kind of answer."""
        try:
            request = revocation.read_request(data)
        except OcspError as error:
            metrics.OCSP_ANSWERS.labels("malformed").inc()
            return error.response
        authority = self._authorities.current
        status: Good | Revoked | None = None
        if revocation.asks_about(request, authority.ca.certificate):
            status = await self._status(authority.name, request.serial_number)
        metrics.OCSP_ANSWERS.labels(type(status).__name__.lower()).inc()
        return revocation.answer(
            request,
            status,
            authority.ocsp,
            now=self._clock.now(),
            validity=timedelta(seconds=self._settings.ocsp_valid),
        )

    async def ocsp_get(self, path: str) -> bytes:
        """The same for the request in the path of a GET."""
        try:
            return await self.ocsp(revocation.read_get(path))
        except OcspError as error:
            metrics.OCSP_ANSWERS.labels("malformed").inc()
            return error.response

    async def _status(self, authority: str, serial: int) -> Good | Revoked | None:
        async with connected(self._pool) as connection:
            row = await certificates.status(connection, authority, f"{serial:x}")
        if row is None:
            return None
        revoked_at, reason = row
        return Good() if revoked_at is None else _revoked(serial, revoked_at, reason)


def _revoked(serial: int, at: datetime, reason: str | None) -> Revoked:
    return Revoked(serial, at, _REASONS.get(reason or "", "privilegeWithdrawn"))


def _measure(crl: Crl | None, now: datetime) -> None:
    if crl is not None:
        left = (crl.next_update - now).total_seconds()
        metrics.CRL_NEXT_UPDATE_SECONDS.labels(crl.authority).set(left)
