"""The console looks at its own audit with the eyes of the verifier: what is new often, all daily.

Whoever owns the database can deceive this, not the verifier of an export: it is here so that a
fault is noticed without one.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from services.console import metrics
from services.console.audit.exporting import Exporting
from services.console.audit.verifying import Broken, Report, Verifier
from services.console.store import audit_upkeep as store
from services.console.store.audit_lists import Filters
from shared.db.pool import Pool, transaction
from shared.runtime.clock import Clock

log = logging.getLogger(__name__)

WHOLE: Final = timedelta(days=1)
"""How often everything is looked at."""


class Checking:
    """Trusts the audit keys that are published in the folder of keys."""

    def __init__(self, pool: Pool, keys_dir: Path, clock: Clock) -> None:
        self._pool, self._clock = pool, clock
        self._public = keys_dir / "public"
        self._exporting = Exporting(pool, clock)

    async def run(self) -> None:
        now = self._clock.now()
        async with transaction(self._pool) as tx:
            last = await store.check(tx)
        # After a fault everything is looked at again: perhaps it was mended from a backup.
        whole = last is None or last["fault"] is not None or now >= last["whole_at"] + WHOLE
        since = None if whole or last is None else last["signed_at"]
        # A fault counts when it is found twice: old entries may go while they are read.
        found = await self._look(since)
        if isinstance(found, Broken):
            found = await self._look(since)
        if isinstance(found, Report):
            await self._passed(last, now, found, whole=whole or since is None)
            return
        await self._keep(last, now, found)
        metrics.AUDIT_FAULTS.labels("check").inc()
        fault = {"kind": found.kind, "fault": found.detail}
        log.error("The audit does not hold together", extra=fault)

    async def _look(self, since: datetime | None) -> Report | Broken:
        try:
            return await self._verified(since)
        except Broken as broken:
            return broken

    async def _verified(self, since: datetime | None) -> Report:
        verifier = Verifier(keys=self._keys())
        async for chunk in self._exporting.lines(Filters(since=since)):
            for line in chunk.splitlines():
                verifier.take(line)
        return verifier.finish()

    def _keys(self) -> list[str]:
        found = [
            load_pem_public_key(path.read_bytes())
            for path in self._public.glob("console-*.audit.pub")
        ]
        return [one.public_bytes_raw().hex() for one in found if isinstance(one, Ed25519PublicKey)]

    async def _passed(
        self, last: dict[str, Any] | None, now: datetime, report: Report, *, whole: bool
    ) -> None:
        root = report.last
        number, signed_at = None, None
        if root is not None:
            number, signed_at = root.number, datetime.fromisoformat(root.signed_at)
        whole_at, links = now, report.links
        if not whole and last is not None:
            # What is under no root yet is looked at, and counted, again.
            whole_at, links = last["whole_at"], last["links"] + report.links - report.after
        elif whole:
            links -= report.after
        async with transaction(self._pool) as tx:
            await store.keep_check(tx, (now, number, signed_at, whole_at, links, None, None))

    async def _keep(self, last: dict[str, Any] | None, now: datetime, broken: Broken) -> None:
        known = last or {"root": None, "signed_at": None, "whole_at": now, "links": 0}
        names = ("root", "signed_at", "whole_at", "links")
        found = (now, *(known[name] for name in names), broken.kind, broken.detail)
        async with transaction(self._pool) as tx:
            await store.keep_check(tx, found)
