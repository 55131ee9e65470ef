"""Imports: enrollments of another server are taken over, a chunk a transaction.

A row makes a device, its enrollment, its open channel and its pin, or nothing; the same row again
makes nothing. The slow parts (certificates, sealing) run beside the event loop and before any lock;
what was decided before is decided again with everything locked, and must come out the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from pydantic import BaseModel, ConfigDict, Field

from services.enrollment import import_rows, import_verdicts, import_writing, metrics
from services.enrollment.authorities import Authorities
from services.enrollment.errors import Refused
from services.enrollment.import_rows import Candidate
from services.enrollment.import_verdicts import ENDS_SOON, Verdict
from services.enrollment.import_writing import Writing
from services.enrollment.store import imports as store
from services.enrollment.store import pins, push_certificates
from shared.apple.certificates import UNREADABLE
from shared.db.pool import Connection, Pool, connected, transaction
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.problems import Problem
from shared.runtime.service import Sealing
from shared.sealed import LocalCipher

log = logging.getLogger(__name__)

IMPORT = "enrollment.import"
MAX_ROWS = 500
"""Rows a call: one transaction, which holds a lock or two for each."""
_TRIES = 3
_MAX_WAITING = 4


class ImportOrder(BaseModel):
    """A chunk of enrollments of another server; docs/import.md says what a row holds."""

    model_config = ConfigDict(extra="forbid")

    rows: list[Any] = Field(min_length=1, max_length=MAX_ROWS)
    """Objects with `certificate`, `udid` or `enrollment_id`, `topic`, `push_token`, `push_magic`…;
    each is judged by itself."""
    dry_run: bool = False
    """Say what would become of the rows, and change nothing."""
    refresh: bool = True
    """Ask the imported devices for their inventory soon, at a bounded pace; else each is asked when
    its turn in the daily round comes."""


@dataclass(frozen=True, slots=True)
class Warned:
    """A row's verdict, and what else its owner should know."""

    verdict: Verdict
    warnings: Sequence[tuple[str, str]] = field(default=())


class Imports:
    """Takes chunks of rows, a few at a time; one is written while the next is read and sealed."""

    def __init__(
        self,
        pool: Pool,
        cipher: LocalCipher,
        sealing: Sealing,
        authorities: Authorities,
        clock: Clock,
    ) -> None:
        self._pool, self._authorities, self._clock = pool, authorities, clock
        self._secrets = import_writing.Secrets(cipher, sealing)
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def take(self, order: ImportOrder, caller: Caller) -> list[Warned]:
        """Import what can be; a verdict for each row, in their order. Raises Problem (503)."""
        if self._waiting >= _MAX_WAITING:
            raise Problem(503, "import_busy", "Other imports are running.").retry_after(2)
        self._waiting += 1
        try:
            return await self._take(order, caller)
        finally:
            self._waiting -= 1

    async def _take(self, order: ImportOrder, caller: Caller) -> list[Warned]:
        now = self._clock.now()
        rows = await asyncio.to_thread(_read_all, order.rows, now)
        for _ in range(_TRIES):
            async with connected(self._pool) as connection:
                verdicts = await self._judge(connection, rows)
                served = await push_certificates.served(connection, _topics(rows), now)
            if order.dry_run or await self._write(rows, verdicts, order, caller):
                return [Warned(one, _warnings(one, served, now)) for one in verdicts]
        raise Problem(503, "import_overtaken", "Devices of this chunk keep changing.").retry_after(
            1
        )

    async def _judge(self, tx: Connection, rows: Sequence[Candidate | Refused]) -> list[Verdict]:
        sound = _sound(rows)
        found = await pins.read(tx, [row.identity.sha256 for row in sound])
        known = await pins.known_hardware(tx, *_names(sound))
        return import_verdicts.judge(rows, found, known, self._issued_here)

    async def _write(
        self,
        rows: Sequence[Candidate | Refused],
        verdicts: Sequence[Verdict],
        order: ImportOrder,
        caller: Caller,
    ) -> bool:
        """Write what the verdicts say, unless they no longer hold; then nothing is written."""
        counts = Counter(one.outcome for one in verdicts)
        if counts["already_there"] == len(verdicts):
            return True
        ready = await asyncio.to_thread(self._secrets.close_all, verdicts)
        async with self._turn, transaction(self._pool) as tx:
            await store.take_turns(tx)
            known = [one.device_id for one in verdicts if one.device_id and not _is_new(one)]
            await pins.hold(tx, *_names(_sound(rows)), known)
            again = await self._judge(tx, rows)
            if [one.gist for one in again] != [one.gist for one in verdicts]:
                return False
            writing = Writing(caller.actor, self._clock.now(), refresh=order.refresh)
            await import_writing.write(tx, ready, verdicts, writing)
            await auditing.record(
                tx, caller, IMPORT, "enrollment.import", "enrollments", after=_summary(verdicts)
            )
        for outcome, count in counts.items():
            metrics.IMPORTED.labels(outcome).inc(count)
        log.info("Enrollments were imported", extra={"rows": dict(counts)})
        return True

    def _issued_here(self, certificate: x509.Certificate) -> bool:
        """Whether our CA signed it: such a certificate counts by its own row, or not at all."""
        ca = self._authorities.current.ca.certificate
        if certificate.issuer != ca.subject:
            return False
        try:
            certificate.verify_directly_issued_by(ca)
        except (TypeError, InvalidSignature, *UNREADABLE):
            return False
        return True


def _read_all(rows: Sequence[object], now: datetime) -> list[Candidate | Refused]:
    read: list[Candidate | Refused] = []
    for row in rows:
        try:
            read.append(import_rows.read(row, now))
        except Refused as refused:
            read.append(refused)
    return read


def _sound(rows: Sequence[Candidate | Refused]) -> list[Candidate]:
    return [row for row in rows if isinstance(row, Candidate)]


def _names(rows: Sequence[Candidate]) -> tuple[list[str], list[str]]:
    """The UDIDs and the serials that these rows name."""
    return [row.claim.udid for row in rows], [r.claim.serial for r in rows if r.claim.serial]


def _topics(rows: Sequence[Candidate | Refused]) -> list[str]:
    return sorted({row.opening.topic for row in _sound(rows) if row.opening})


def _is_new(verdict: Verdict) -> bool:
    return verdict.decision is not None and verdict.decision.unheard_of


def _warnings(verdict: Verdict, served: set[str], now: datetime) -> list[tuple[str, str]]:
    row, warned = verdict.candidate, []
    if row is None or verdict.outcome == "refused":
        return []
    if row.opening and row.opening.topic not in served:
        warned.append(("topic_unserved", "no push certificate of this topic is here: not woken"))
    if row.identity.not_after - now < ENDS_SOON:
        warned.append(("certificate_ends_soon", "the certificate ends within 30 days: renew it"))
    return warned


def _summary(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """For the audit: how many, and why not."""
    outcomes: dict[str, int] = Counter(one.outcome for one in verdicts)
    return {**outcomes, "codes": dict(Counter(one.code for one in verdicts if one.code))}
