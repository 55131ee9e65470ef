"""From events to links: a chain for each partition of each audit topic, with one writer at a time.

Whoever adds to a chain holds its row, so that after a rebalance two consumers wait for each other;
an event that is told again is known to the inbox and makes no second link.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from secrets import token_bytes
from typing import Any, Final

import orjson

from services.console import metrics
from services.console.audit.canonical import Content, Key, Link, instant
from services.console.store import audit as store
from services.console.store.audit import Added, Chain
from services.console.views import live
from shared.db.pool import Connection
from shared.events.audit import AuditRecorded

_SALT_BYTES: Final = 16


async def record(tx: Connection, events: Sequence[AuditRecorded]) -> None:
    """Add what a batch of events says, in the order in which they lie in Kafka."""
    lying: dict[Key, list[AuditRecorded]] = defaultdict(list)
    for event in events:
        lying[event.place.topic, event.place.partition].append(event)
    chains = await store.hold(tx, sorted(lying))
    added = [
        row
        for chain in chains
        for row in _linked(chain, lying[chain.topic, chain.partition_number])
    ]
    await store.append(tx, added)
    live.changed(tx, [live.AUDIT])
    for origin, count in Counter(row.service for row in added).items():
        metrics.AUDIT_RECORDED.labels(origin).inc(count)


def _linked(chain: Chain, events: Sequence[AuditRecorded]) -> Iterator[Added]:
    """The rows that go on from the end of the chain."""
    previous, position = chain.hash.hex(), chain.position
    recorded_at = instant(chain.now)
    for event in events:
        position += 1
        meta, content = event.meta, _content(event)
        link = Link(
            topic=chain.topic,
            partition=chain.partition_number,
            position=position,
            offset=event.place.offset,
            previous=previous,
            recorded_at=recorded_at,
            event_id=str(meta.event_id),
            occurred_at=instant(meta.time),
            action=_clean(event.action),
            permission=_clean(event.permission),
            content=content.hash,
        )
        yield _row(chain, event, link, content)
        previous = link.hash


def _content(event: AuditRecorded) -> Content:
    return Content(
        salt=token_bytes(_SALT_BYTES).hex(),
        audit_id=str(event.audit_id),
        actor=_clean(event.actor),
        target=_clean(event.target),
        before=_text(event.before),
        after=_text(event.after),
        reason=event.reason and _clean(event.reason),
        source=event.source and _clean(event.source),
        via=event.via and _clean(event.via),
        correlation_id=event.meta.correlation_id and _clean(event.meta.correlation_id),
    )


def _row(chain: Chain, event: AuditRecorded, link: Link, content: Content) -> Added:
    return Added(
        chain_id=chain.chain_id,
        position=link.position,
        recorded_at=chain.now,
        record_offset=link.offset,
        previous=bytes.fromhex(link.previous),
        hash=bytes.fromhex(link.hash),
        content_hash=bytes.fromhex(link.content),
        event_id=event.meta.event_id,
        service=event.meta.source.removeprefix("/muster/"),
        occurred_at=event.meta.time,
        action=link.action,
        permission=link.permission,
        salt=bytes.fromhex(content.salt),
        audit_id=event.audit_id,
        actor=content.actor,
        target=content.target,
        before=content.before,
        after=content.after,
        reason=content.reason,
        source=content.source,
        via=content.via,
        correlation_id=content.correlation_id,
    )


def _clean(text: str) -> str:
    """PostgreSQL keeps no NUL in a text; what somebody named that way must be on record too."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _text(values: dict[str, Any] | None) -> str | None:
    return None if values is None else orjson.dumps(values).decode()
