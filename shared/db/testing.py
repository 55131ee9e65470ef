"""For tests: what PostgreSQL would do for the statements that a road has met.

Their plans are made once, while tables are empty, and kept
(docs/decisions/0008-one-plan-for-the-road.md). One that looks rows up by what stands behind an
index's first column reads the whole index, for each of them: nobody notices in a small fleet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import asyncpg

from shared.db.pool import Connection, Pool

PREPARED = """
SELECT name, statement, cardinality(parameter_types) AS parameters FROM pg_prepared_statements
"""
FIRST = """
SELECT relname AS index, pg_get_indexdef(indexrelid, 1, true) AS first
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE relnamespace = current_schema()::regnamespace
"""
_looked_at: set[str] = set()
"""Statements whose plans were fine: most tests meet the same ones."""


async def refuse_wide_plans(road: Pool) -> None:
    """Raises AssertionError for statements that read all of an index for a row."""
    connections = [await road.acquire() for _ in range(road.get_idle_size())]
    try:
        wide = [found for one in connections for found in await _wide(one)]
    finally:
        for connection in connections:
            await road.release(connection)
    assert not wide, "\n\n".join(wide)  # noqa: S101 - it is for tests


async def _wide(connection: Connection) -> list[str]:
    found, first = [], None
    for row in await connection.fetch(PREPARED):
        statement = row["statement"]
        if statement in _looked_at:
            continue
        first = first or {r["index"]: r["first"] for r in await connection.fetch(FIRST)}
        given = f"({', '.join(['NULL'] * row['parameters'])})" if row["parameters"] else ""
        try:
            plan = await connection.fetchval(
                f'EXPLAIN (FORMAT JSON, COSTS OFF) EXECUTE "{row["name"]}"{given}'
            )
        except asyncpg.PostgresError:
            continue  # it is none that has a plan
        faults = [
            f"{node['Index Name']} is read whole by {node['Index Cond']}"
            for whole in plan
            if isinstance(whole, dict)  # a word, of what is no query
            for node in _nodes(whole["Plan"])
            if _is_wide(node, first)
        ]
        if faults:
            found.append(f"{', '.join(faults)}:\n{statement.strip()}")
        else:
            _looked_at.add(statement)
    return found


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def _is_wide(node: Mapping[str, Any], first: Mapping[str, str]) -> bool:
    """Whether the condition leaves the index's first column open."""
    condition, column = node.get("Index Cond"), first.get(node.get("Index Name", ""))
    return bool(
        condition and column and not re.search(rf"(?<!\w){re.escape(column)}(?!\w)", condition)
    )
