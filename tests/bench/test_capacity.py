"""From measured costs to pods: the arithmetic of the capacity table."""

from __future__ import annotations

from typing import Any

import pytest

from tools.bench.capacity import Costs, Need, text

LINES: list[dict[str, Any]] = [
    {"machine": {}},
    {
        "scenario": "poll",
        "system": "muster",
        "cpu_us_by": {"command_queue-http": 200.0, "postgres": 50.0},
        "apart_us_by": {},
        "wal_bytes": 0.0,
    },
    {
        "scenario": "drain",
        "system": "muster",
        "cpu_us_by": {"command_queue-http": 600.0, "postgres": 300.0},
        "apart_us_by": {
            "command_queue-relay": 40.0,
            "inventory": 2000.0,
            "kafka": 500.0,
            "bench": 100.0,
            "postgres for these": 700.0,
        },
        "wal_bytes": 4000.0,
    },
    {"outcome_bytes": 500},
]


def test_a_fleet_of_a_hundred_thousand() -> None:
    need = Need.of(100_000, Costs.of(LINES))
    # 100,000 answers in ten minutes are 166.7 a second, at 0.6 ms each; polls add 6.9 at 0.2 ms.
    assert need.answers == pytest.approx(166.67, abs=0.01)
    assert need.polls == pytest.approx(6.94, abs=0.01)
    assert need.http_cores == pytest.approx(0.1014, abs=0.0001)
    assert need.http_pods == 2
    # The relay needs nothing to speak of: two pods; inventory a third of a core: two, not one.
    assert need.other_pods == 4
    assert need.postgres_cores == pytest.approx(166.67 * 0.001 + 6.94 * 0.00005, abs=0.0001)
    assert need.connections == 6 * 20
    assert need.wal_megabytes == pytest.approx(0.667, abs=0.001)
    assert need.disk_gigabytes == pytest.approx(240.0)


def test_pods_grow_with_the_fleet() -> None:
    need = Need.of(1_000_000, Costs.of(LINES))
    # 1,667 answers a second at 2 ms of inventory: 3.33 cores at 60 % each.
    assert need.other_pods == 2 + 6
    assert need.http_pods == 2


def test_the_table_shows_what_went_in() -> None:
    said = text(Costs.of(LINES))
    assert "600 and 300 µs" in said
    assert "| 500,000 |" in said


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_run_that_measured_too_little_is_refused(missing: int) -> None:
    with pytest.raises(ValueError, match=r"no measurement|outcome_bytes"):
        Costs.of([line for place, line in enumerate(LINES) if place != missing])
