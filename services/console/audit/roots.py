"""Roots: each minute one signed statement about the heads of all chains, and it leaves the system.

Somebody who can write the database can write a whole new audit, but not one whose roots are those
that others have heard of: the log, the topic, every webhook that asked for them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from services.console import metrics
from services.console.audit.canonical import NOTHING, Head, Root, heads_hash, instant
from services.console.store import audit_roots as store
from shared.bus import outbox
from shared.db.pool import Connection, Pool, transaction
from shared.events.audit import AuditRootSigned
from shared.runtime.clock import Clock
from shared.sealed import audit_key

log = logging.getLogger(__name__)

EVERY: Final = timedelta(minutes=1)
_EARLY: Final = timedelta(seconds=5)
"""A timer may come so much before its time."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Signed:
    """A root and its Ed25519 signature, in hex."""

    root: Root
    signature: str

    @property
    def told(self) -> dict[str, Any]:
        """As logs, events and exports have it."""
        return {**asdict(self.root), "signature": self.signature}


class Roots:
    """Signs, with the newest key that lies in the console's own folder."""

    def __init__(self, pool: Pool, keys_dir: Path, clock: Clock) -> None:
        self._pool, self._folder, self._clock = pool, keys_dir / "console", clock

    async def sign(self) -> None:
        """One root, unless the last one is younger than a minute; safe to run twice."""
        now = self._clock.now()
        async with transaction(self._pool) as tx:
            last = await store.last_alone(tx)
            if last is not None and now < last["signed_at"] + EVERY - _EARLY:
                return
            signed = await self._sign(tx, last, now)
        metrics.AUDIT_ROOTS.inc()
        # As one text: the log hides fields that are called signature.
        log.info("Audit root", extra={"root": orjson.dumps(signed.told).decode()})

    async def _sign(self, tx: Connection, last: Row | None, now: datetime) -> Signed:
        heads = await store.heads(tx)
        key_id, key = audit_key(self._folder)
        await store.keep_key(tx, key_id, key.public_key().public_bytes_raw(), now)
        root = Root(
            number=last["number"] + 1 if last else 1,
            signed_at=instant(max(now, last["signed_at"]) if last else now),
            previous=last["hash"].hex() if last else NOTHING,
            heads=heads_hash(map(head_of, heads)),
            chains=len(heads),
            links=sum(head["position"] for head in heads),
            key_id=key_id,
        )
        signed = Signed(root, key.sign(root.statement).hex())
        await store.add(tx, _columns(signed), [head for head in heads if head["moved"]])
        await outbox.emit(tx, [AuditRootSigned(**signed.told)])
        return signed


def head_of(row: Mapping[str, Any]) -> Head:
    return Head(
        topic=row["topic"],
        partition=row["partition_number"],
        first=row["first"],
        position=row["position"],
        hash=row["hash"].hex(),
    )


def root_of(row: Row) -> Signed:
    """As it was signed, from its row."""
    root = Root(
        number=row["number"],
        signed_at=instant(row["signed_at"]),
        previous=row["previous"].hex(),
        heads=row["heads"].hex(),
        chains=row["chains"],
        links=row["links"],
        key_id=row["key_id"],
    )
    return Signed(root, row["signature"].hex())


def _columns(signed: Signed) -> Sequence[Any]:
    root = signed.root
    return (
        root.number,
        datetime.fromisoformat(root.signed_at),
        bytes.fromhex(root.previous),
        bytes.fromhex(root.heads),
        root.chains,
        root.links,
        root.key_id,
        bytes.fromhex(root.hash),
        bytes.fromhex(signed.signature),
    )


async def heard(tx: Connection, events: Sequence[AuditRootSigned]) -> None:
    """Compare what was told with what is kept: they differ when somebody rewrote the database."""
    kept = await store.find(tx, [event.number for event in events])
    first = await store.first(tx)
    for event in events:
        row = kept.get(event.number)
        same = row is not None and root_of(row).told == event.model_dump()
        if not same and first is not None and event.number >= first:
            metrics.AUDIT_FAULTS.labels("root").inc()
            log.error(
                "The audit has another root than the one that was told: it was rewritten or"
                " restored",
                extra={"number": event.number},
            )
