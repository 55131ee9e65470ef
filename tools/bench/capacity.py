"""`python -m tools.bench.capacity FILE`: from measured costs to pods, connections and disk.

FILE is a run saved by `make bench SAVE=FILE`. Printed is Markdown for docs/performance.md: what was
assumed, the costs that went in, and the table.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tools.bench.ratios import markdown
from tools.bench.results import grouped, read

FLEETS: Final = (10_000, 50_000, 100_000, 500_000)
COMMANDS_A_DAY: Final = 12
"""A device: five sections of inventory each day, and what people and policies want."""
POLL_MINUTES: Final = 240
"""Between empty polls of a device: after a push that another command's answer had overtaken."""
STORM_SECONDS: Final = 600
"""Everybody is sent a command and woken; this is how long the answers take to come in."""
LOAD: Final = 0.6
"""Of a core that is planned for: the rest is for a pod that is lost, and for peaks."""
LEAST_PODS: Final = 2
PARTITIONS: Final = 24
CONNECTIONS_A_POD: Final = 20
"""pool_size 10, road_size 8, one of the relay, one of the jobs' locks."""
KEPT_DAYS: Final = 400
_HTTP: Final = "command_queue-http"
_NO_SERVICES: Final = ("kafka", "bench", "postgres for these", "command_queue-https")


@dataclass(frozen=True)
class Costs:
    """Seconds of CPU a unit, and bytes."""

    poll: float
    poll_postgres: float
    command: float
    command_postgres: float
    others: Mapping[str, float]
    """A command's share of each other process: relay, consumers."""
    others_postgres: float
    kafka: float
    wal: float
    outcome: float
    """Bytes on disk, indexes included."""

    @classmethod
    def of(cls, lines: Sequence[Mapping[str, Any]]) -> Costs:
        """Medians of a saved run; raises ValueError when a measurement is missing."""
        found = grouped(lines)
        try:
            poll, drain = found["poll muster"], found["drain muster"]
        except KeyError as error:
            raise ValueError(f"the run has no measurement of {error}") from None
        apart = {name: _middle(drain, "apart_us_by", name) for name in drain[0]["apart_us_by"]}
        size = next((line["outcome_bytes"] for line in lines if "outcome_bytes" in line), None)
        if size is None:
            raise ValueError("the run does not tell outcome_bytes")
        return cls(
            poll=_middle(poll, "cpu_us_by", _HTTP),
            poll_postgres=_middle(poll, "cpu_us_by", "postgres"),
            command=_middle(drain, "cpu_us_by", _HTTP),
            command_postgres=_middle(drain, "cpu_us_by", "postgres"),
            others={name: cost for name, cost in apart.items() if name not in _NO_SERVICES},
            others_postgres=apart.get("postgres for these", 0.0),
            kafka=apart.get("kafka", 0.0),
            wal=sorted(float(line["wal_bytes"]) for line in drain)[len(drain) // 2],
            outcome=float(size),
        )


def _middle(lines: Sequence[Mapping[str, Any]], field: str, name: str) -> float:
    """The median of a process's cost, in seconds."""
    values = sorted(float(line[field].get(name, 0.0)) for line in lines)
    return values[len(values) // 2] / 1e6


@dataclass(frozen=True)
class Need:
    """What a fleet of some size needs while everybody answers a command."""

    devices: int
    polls: float
    """A second, all day."""
    answers: float
    """A second, in the storm."""
    http_cores: float
    http_pods: int
    other_pods: int
    postgres_cores: float
    wal_megabytes: float
    connections: int
    disk_gigabytes: float

    @classmethod
    def of(cls, devices: int, costs: Costs) -> Need:
        polls = devices / (POLL_MINUTES * 60)
        answers = devices / STORM_SECONDS
        http = answers * costs.command + polls * costs.poll
        others = sum(_pods(answers * cost) for cost in costs.others.values())
        postgres = answers * (costs.command_postgres + costs.others_postgres)
        postgres += polls * costs.poll_postgres
        pods = _pods(http)
        return cls(
            devices=devices,
            polls=polls,
            answers=answers,
            http_cores=http,
            http_pods=pods,
            other_pods=others,
            postgres_cores=postgres,
            wal_megabytes=answers * costs.wal / 1e6,
            connections=(pods + others) * CONNECTIONS_A_POD,
            disk_gigabytes=devices * COMMANDS_A_DAY * KEPT_DAYS * costs.outcome / 1e9,
        )

    def row(self) -> list[str]:
        return [
            f"{self.devices:,}",
            f"{self.polls:.1f}",
            f"{self.answers:.0f}",
            f"{self.http_cores:.2f} → {self.http_pods}",
            str(self.other_pods),
            f"{self.postgres_cores:.2f}",
            str(PARTITIONS),
            f"≤ {self.connections}",
            f"{self.wal_megabytes:.1f} MB/s",
            f"{self.disk_gigabytes:,.0f} GB",
        ]


def _pods(cores: float) -> int:
    return max(LEAST_PODS, math.ceil(cores / LOAD))


_HEAD = [
    "devices", "empty polls/s", "answers/s in a storm", "cores → pods of command_queue http",
    "pods of all other roles", "cores of PostgreSQL", "partitions", "connections",
    "WAL in a storm", "outcomes on disk",
]  # fmt: skip


_TEXT = """\
* A poll costs {poll:.0f} µs of command_queue's http role and {poll_postgres:.0f} µs of \
PostgreSQL; a command, Idle to answered, {command:.0f} and {command_postgres:.0f} µs.
* Its events cost all other processes together {others:.0f} µs, their PostgreSQL \
{others_postgres:.0f} µs and Kafka {kafka:.0f} µs.
* An outcome takes {outcome:.0f} bytes with its indexes; a command writes {wal:.1f} KB of WAL, \
that of its events included.
* Assumed: {a_day} commands a device a day, kept {kept} days; an empty poll every {minutes} \
minutes; everybody answers a command within {storm} minutes.
* Pods = cores / {load}, rounded up, at least {least} of each. Connections = pods × {connections} \
(pool_size 10, road_size 8, relay, job locks).
* Disk = devices × {a_day} × {kept} × bytes of an outcome.

"""


def text(costs: Costs) -> str:
    """What was measured and assumed, and the table."""
    told = _TEXT.format(
        poll=costs.poll * 1e6,
        poll_postgres=costs.poll_postgres * 1e6,
        command=costs.command * 1e6,
        command_postgres=costs.command_postgres * 1e6,
        others=sum(costs.others.values()) * 1e6,
        others_postgres=costs.others_postgres * 1e6,
        kafka=costs.kafka * 1e6,
        outcome=costs.outcome,
        wal=costs.wal / 1000,
        a_day=COMMANDS_A_DAY,
        kept=KEPT_DAYS,
        minutes=POLL_MINUTES,
        storm=STORM_SECONDS // 60,
        load=LOAD,
        least=LEAST_PODS,
        connections=CONNECTIONS_A_POD,
    )
    return told + markdown([_HEAD, *(Need.of(devices, costs).row() for devices in FLEETS)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    try:
        print(text(Costs.of(read(parser.parse_args().file))))
    except (OSError, ValueError) as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
