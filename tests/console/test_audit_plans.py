"""Every search of the audit is read along an index, over many partitions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.console.app import SERVICE
from services.console.store import audit_exports, audit_lists
from services.console.store.audit_lists import Filters
from shared.db import partitions
from shared.db.pool import READING, transaction
from shared.events.base import uuid7
from shared.runtime.testing import Trial, trial
from tools.embedded.testing import MakeDatabase

ROWS = 60_000
DAYS = 60
# Few actors and kinds of acts do most, as in life; each of the others is rare.
FILL = f"""
WITH entry AS (
    SELECT n, now() - interval '{DAYS} days' * (1 - n / {ROWS}.0) AS at
    FROM generate_series(1, {ROWS}) AS n
)
INSERT INTO audit (
    chain_id, position, recorded_at, record_offset, previous, hash, content_hash, event_id, service,
    occurred_at, action, permission, salt, audit_id, actor, target, correlation_id)
SELECT n % 24 + 1, n / 24 + 1, at, n, '\\x00', '\\x00', '\\x00',
    (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
    CASE WHEN n % 3000 = 0 THEN 'push_notifier' ELSE 'command_queue' END, at,
    CASE WHEN n % 5 > 0 THEN 'command.create' ELSE 'act.' || n % 40 END, 'p.q', '\\x00',
    gen_random_uuid(), 'account:' || CASE WHEN n % 3 > 0 THEN 1 ELSE n % 500 END,
    'target ' || n % 20000, 'correlation ' || n / 10
FROM entry
"""


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    async with trial(SERVICE, await make_database("console"), tmp_path) as running:
        async with running.context.pool.acquire() as connection:
            await connection.execute(
                "INSERT INTO audit_chain (topic, partition_number, position) "
                "SELECT 'muster.audit.command_queue.v1', n, 2500 FROM generate_series(0, 23) AS n"
            )
            async with connection.transaction():
                await partitions.ensure(connection, "audit", days_behind=DAYS)
            await connection.execute(FILL)
            await connection.execute("ANALYZE audit")
        yield running


def _all(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(one for inner in plan.get("Plans", []) for one in _all(inner))]


async def _plan(service: Trial, filters: Filters) -> Any:
    """What PostgreSQL does for a page, and how many rows it looks at."""
    async with transaction(service.context.pool, READING) as tx:
        conditions, values = audit_lists.conditions_of(filters, None)
        statement = audit_lists.statement(conditions)
        [found] = await tx.fetch(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *values, 51, timeout=60
        )
    return _all(found[0][0]["Plan"])


NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(actor="account:1"),
        Filters(actor="account:77"),
        Filters(actor="account:nobody"),
        Filters(action="command.create"),
        Filters(action="act.35"),
        Filters(target="target 5"),
        Filters(service="push_notifier"),
        Filters(correlation_id="correlation 77"),
        Filters(actor="account:1", action="command.create"),
        Filters(since=NOW - timedelta(days=40), until=NOW - timedelta(days=39)),
        Filters(until=NOW - timedelta(days=50)),
        Filters(actor="account:1", until=NOW - timedelta(days=50)),
    ],
    ids=str,
)
async def test_a_page_is_read_along_an_index(service: Trial, filters: Filters) -> None:
    nodes = await _plan(service, filters)
    scans = [node for node in nodes if node.get("Relation Name", "").startswith("audit_p")]
    read = {node["Node Type"]: 0 for node in scans}
    for node in scans:
        read[node["Node Type"]] += node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    assert read.pop("Seq Scan", 0) < 1000  # of weeks of which a day is kept, or nothing
    assert sum(read.values()) < 1500


async def test_the_kinds_of_acts_are_read_in_steps(service: Trial) -> None:
    async with service.context.pool.acquire() as connection:
        found = await audit_lists.actions(connection)
        [plan] = await connection.fetch(f"EXPLAIN (ANALYZE, FORMAT JSON) {audit_lists.ACTIONS}")
    assert len(found) == len(set(found)) == 9
    scans = [one for one in _all(plan[0][0]["Plan"]) if "audit_p" in one.get("Relation Name", "")]
    assert sum(one["Actual Rows"] * one["Actual Loops"] for one in scans) < 500


async def test_spans_of_chains_are_read_by_their_positions(service: Trial) -> None:
    spans = [(1, 10, 20), (5, 100, 300), (1, 20, 21)]
    async with service.context.pool.acquire() as connection:
        found = await audit_exports.links(connection, spans)
    places = [(row["place"], row["position"]) for row in found]
    assert places == sorted(places)
    assert len(places) == 10 + 200 + 1
    assert uuid7() > found[0]["event_id"]
