"""The plans of the statements that devices and events cause, as shapes that can be compared.

A shape leaves out costs and which partition was meant: what stays are the steps, the tables and the
indexes. They are planned as on the road: once, for any values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from services.command_queue.store import (
    commands,
    devices,
    fences,
    outcomes,
    pending,
    placing,
    presence,
    speakers,
    targets,
)
from shared.bus import applying, outbox, relay
from shared.db import locks
from tools.bench.meter import Admin

STATEMENTS: Final[Mapping[str, str]] = {
    "poll: who speaks, and is there work": speakers.FIND,
    "lock devices: make shells": locks.MAKE_SHELLS,
    "lock devices": locks.LOCK,
    "answers end commands": outcomes.SETTLE,
    "hand out": pending.CLAIM,
    "NotNow": pending.DEFER,
    "want a push": pending.WANT_PUSH,
    "answers to nothing that is open": outcomes.FIND,
    "a target ends before it is queued": outcomes.FILE,
    "seen": presence.SEEN,
    "told of being seen": presence.TELL,
    "a command is asked for": commands.ADD,
    "its key is looked up": commands.FIND_BY_KEY,
    "the next plain chunks": targets.NEXT_PLAIN,
    "the next chunks that are not": targets.NEXT,
    "plain targets are placed": placing.PLACE,
    "where targets are served": devices.PLACES,
    "fences of devices": fences.OF_DEVICES,
    "queue": pending.ADD,
    "events go out": outbox.EMIT,
    "events come in": applying.RECORD,
    "the relay reads": relay.READ,
}
_ROAD: Final = """
SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off;
SET enable_mergejoin = off; SET jit = off
"""
_KEPT: Final = ("Node Type", "Join Type", "Operation", "Relation Name", "Index Name", "Index Cond")


async def shapes(connection: Admin) -> dict[str, str]:
    """The shape of each statement's plan; the connection is used up for anything else."""
    await connection.execute(_ROAD)
    found = {}
    for name, statement in STATEMENTS.items():
        await connection.execute(f"PREPARE shaped AS {statement}")
        count = await connection.fetchval(
            "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'shaped'"
        )
        nothing = f"({', '.join(['NULL'] * count)})" if count else ""
        [row] = await connection.fetch(f"EXPLAIN (FORMAT JSON, COSTS OFF) EXECUTE shaped{nothing}")
        await connection.execute("DEALLOCATE shaped")
        plan = row["QUERY PLAN"]
        [whole] = json.loads(plan) if isinstance(plan, str) else plan
        found[name] = "\n".join(_lines(whole["Plan"], 0))
    return found


def _lines(node: Mapping[str, Any], depth: int) -> list[str]:
    children: list[Mapping[str, Any]] = node.get("Plans", [])
    words = [str(node[name]) for name in _KEPT if name in node]
    if any("_p20" in word or "_default" in word for word in words):
        # One of the partitions, and all of them are planned alike.
        words = [word for word in words if "_p20" not in word and "_default" not in word]
        words.append("a partition")
    lines = [" " * depth + ", ".join(words)]
    of_children = [_lines(child, depth + 1) for child in children]
    alike = [one for place, one in enumerate(of_children) if one not in of_children[:place]]
    for one in alike:
        lines += one
    return lines


def scans_history(shape: str) -> bool:
    """Whether a plan reads partitions, however few of them."""
    return "a partition" in shape


def scans_all(shape: str) -> bool:
    """Whether a plan reads a table from end to end; a batch's own values are no table."""
    return any(
        line.strip().startswith("Seq Scan") and "installation" not in line and "epoch" not in line
        for line in shape.splitlines()
    )


def lookups(shape: str) -> frozenset[tuple[str, bool]]:
    """The indexes that a plan reads, and whether by key; how it joins them is left open.

    Databases with different fleets may differ in bitmaps, memoised rows and the order of equals.
    """
    found = set()
    for line in shape.splitlines():
        kind, _, rest = line.strip().partition(", ")
        if "Index" in kind:
            names = rest.partition(", (")[0].split(", ")
            found.add((names[-1], ", (" in rest))
        elif kind == "Seq Scan":
            found.add((rest, False))
        elif kind == "a partition":
            found.add((kind, False))
    return frozenset(found)
