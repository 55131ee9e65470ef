"""An hour at half load: do memory, file descriptors and connections stay where they are?

Each round polls at a constant rate, sends a command to the whole fleet, drains it, and lets a part
of the fleet come over new connections; then it looks at every process.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tools.bench import cpu, results, scenarios
from tools.bench.bench import Bench, JsonLine
from tools.bench.driver import Manner

POLLING_SECONDS: Final = 45.0
STORMING: Final = 200
_KEPT_WARM: Final = 0.15
"""The share of the rounds that only fills caches and pools."""

BACKENDS: Final = """
SELECT coalesce(nullif(application_name, ''), backend_type) AS who, count(*)
FROM pg_stat_activity WHERE pid <> pg_backend_pid() GROUP BY 1
"""


@dataclass(frozen=True)
class Look:
    """What the processes held after a round, by process name."""

    megabytes: Mapping[str, float]
    descriptors: Mapping[str, int]
    backends: Mapping[str, int]


async def soak(bench: Bench) -> AsyncIterator[JsonLine]:
    """A line a round, and at the end how much each process grew."""
    ends = time.monotonic() + 60 * bench.options.minutes
    looks: list[Look] = []
    while time.monotonic() < ends or not looks:
        said = await _round(bench)
        looks.append(await _look(bench))
        look = looks[-1]
        yield {
            "scenario": "soak",
            "round": len(looks),
            **said,
            "megabytes": look.megabytes,
            "descriptors": look.descriptors,
            "backends": look.backends,
        }
    yield verdict(looks)


async def _round(bench: Bench) -> dict[str, Any]:
    rate = bench.options.rates[-1]
    poll = await scenarios.poll(
        bench.ground, bench.devices, seconds=POLLING_SECONDS, manner=Manner(64, rate=rate)
    )
    _, asked = await scenarios.enqueue(bench.ground, bench.devices)
    drained = await scenarios.drain(bench.ground, asked)
    stormed = await scenarios.storm(bench.ground, bench.devices[:STORMING], connections=STORMING)
    wrong = sum(line.measured.wrong for line in (poll, drained, stormed) if line.measured)
    return {
        "polls": poll.units,
        "commands": drained.units,
        "wrong": wrong,
        "p99_ms": poll.json().get("p99_ms"),
    }


async def _look(bench: Bench) -> Look:
    pids = bench.muster.everything()
    rows = await bench.muster.admin.fetch(BACKENDS)
    return Look(
        results.memory(pids),
        {name: sum(map(_descriptors, cpu.family(pid))) for name, pid in pids.items()},
        {row["who"]: row["count"] for row in rows},
    )


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - only counted
    except OSError:
        return 0  # it ended while we looked


def verdict(looks: Sequence[Look]) -> JsonLine:
    """How the last third of the rounds lies above the first third, once caches are warm.

    `growth`: the medians' ratio of memory; descriptors and backends as differences of the medians.
    """
    settled = looks[int(len(looks) * _KEPT_WARM) :]
    third = max(1, len(settled) // 3)
    first, last = settled[:third], settled[-third:]
    return {
        "scenario": "soak verdict",
        "rounds": len(looks),
        "growth": {
            name: round(
                _median([one.megabytes[name] for one in last])
                / max(0.1, _median([one.megabytes[name] for one in first])),
                3,
            )
            for name in first[0].megabytes
        },
        "most_megabytes": {
            name: max(one.megabytes[name] for one in looks) for name in first[0].megabytes
        },
        "descriptors_more": _more(
            [one.descriptors for one in first], [one.descriptors for one in last]
        ),
        "backends_more": _more([one.backends for one in first], [one.backends for one in last]),
    }


def _more(
    first: Sequence[Mapping[str, int]], last: Sequence[Mapping[str, int]]
) -> dict[str, float]:
    names = {name for one in (*first, *last) for name in one}
    return {
        name: _median([one.get(name, 0) for one in last])
        - _median([one.get(name, 0) for one in first])
        for name in sorted(names)
    }


def _median(values: Sequence[float]) -> float:
    return float(statistics.median(values))
