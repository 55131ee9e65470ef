"""How the audit stands: its last root, its chains, and what the console's own look at it found."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from services.console.audit.roots import Signed, root_of
from services.console.store import audit_roots, audit_upkeep
from shared.db.pool import Pool, transaction
from shared.runtime.clock import Clock

Row = dict[str, Any]
_LATE: Final = timedelta(minutes=5)
"""A root that is older, or none: nobody signs."""
_STALE: Final = timedelta(hours=2)


@dataclass(frozen=True)
class Standing:
    """`word`: holds, broken, unsigned (no root for minutes) or unchecked (nobody looked lately)."""

    word: str
    root: Signed | None
    signed_at: datetime | None
    heads: list[Row]
    keys: list[Row]
    check: Row | None
    as_of: datetime


class Standings:
    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def now(self) -> Standing:
        now = self._clock.now()
        async with transaction(self._pool) as tx:
            last = await audit_roots.last(tx)
            heads = await audit_roots.heads(tx)
            keys = await audit_roots.keys(tx)
            check = await audit_upkeep.check(tx)
        return Standing(
            word=_word(last, check, now),
            root=root_of(last) if last else None,
            signed_at=last["signed_at"] if last else None,
            heads=heads,
            keys=keys,
            check=check,
            as_of=now,
        )


def _word(last: Row | None, check: Row | None, now: datetime) -> str:
    if check is not None and check["fault"] is not None:
        return "broken"
    if last is None or last["signed_at"] < now - _LATE:
        return "unsigned"
    if check is None or check["checked_at"] < now - _STALE:
        return "unchecked"
    return "holds"
