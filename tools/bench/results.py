"""Results: a JSON line for each measurement, medians and spreads over repeated ones."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.bench import cpu, ratios
from tools.bench.driver import Measured
from tools.bench.meter import Spent

MILLI, MICRO = 1e3, 1e6


@dataclass
class Line:
    """One measurement of one scenario; `units` is what CPU and rate are divided by."""

    scenario: str
    system: str
    unit: str
    units: int
    spent: Spent
    measured: Measured | None = None
    seconds: float | None = None
    """Wall time of the work, when it is not that of the requests."""
    more: dict[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        seconds = self.seconds or (self.measured.seconds if self.measured else self.spent.seconds)
        units = max(1, self.units)
        line: dict[str, Any] = {
            "scenario": self.scenario,
            "system": self.system,
            "unit": self.unit,
            "units": self.units,
            "seconds": round(seconds, 3),
            "per_second": round(self.units / seconds, 1) if seconds else None,
            "cpu_us": round(MICRO * self.spent.cpu_seconds / units, 1),
            "cpu_us_by": _each(self.spent.counted, units),
            "apart_us_by": _each(self.spent.apart, units),
            "wal_bytes": round(self.spent.wal_bytes / units, 1),
        }
        if self.spent.instructions is not None:
            line["instructions"] = {
                name: round(count / units) for name, count in self.spent.instructions.items()
            }
        generator = 0.0
        if self.measured:
            generator = self.measured.cpu_seconds
            line |= _of_requests(self.measured)
        line["rest_of_machine_cores"] = round(self.spent.rest_cores(generator), 2)
        if self.spent.seconds:
            line["stolen_cores"] = round(self.spent.stolen_seconds / self.spent.seconds, 2)
        return line | self.more


def _each(seconds: Mapping[str, float], units: int) -> dict[str, float]:
    return {name: round(MICRO * used / units, 1) for name, used in seconds.items()}


def _of_requests(measured: Measured) -> dict[str, Any]:
    found: dict[str, Any] = {
        "requests": measured.requests,
        "p50_ms": round(measured.quantile(0.50), 2),
        "p95_ms": round(measured.quantile(0.95), 2),
        "p99_ms": round(measured.quantile(0.99), 2),
        "generator_us": round(MICRO * measured.cpu_seconds / max(1, measured.requests), 1),
    }
    if measured.wrong or measured.unfinished:
        found["statuses"] = {str(code): n for code, n in sorted(measured.statuses.items())}
        found["unfinished"] = measured.unfinished
    return found


def in_milliseconds(seconds: Sequence[float]) -> dict[str, float | None]:
    """Quantiles of times; None where there are none."""
    ordered = sorted(seconds)
    return {
        f"p{part}_ms": round(1000 * ordered[min(len(ordered) - 1, len(ordered) * part // 100)], 2)
        if ordered
        else None
        for part in (50, 95, 99)
    }


@dataclass(frozen=True)
class Summary:
    """The median of a value over runs, and how far the runs lie apart."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        return cls(statistics.median(values), min(values), max(values), len(values))

    @property
    def spread(self) -> float:
        """Half the distance between the extremes, as a part of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def grouped(lines: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Repeated measurements by name: scenario, then whose."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        if "scenario" in line:
            found.setdefault(f"{line['scenario']} {line.get('system', '')}".strip(), []).append(
                line
            )
    return found


def summary(lines: Sequence[Mapping[str, Any]], field_name: str) -> Summary | None:
    """Of one field; None where no line has it."""
    values = [float(line[field_name]) for line in lines if line.get(field_name) is not None]
    return Summary.of(values) if values else None


def read(path: Path) -> list[dict[str, Any]]:
    """A saved run; raises ValueError naming the line that is no JSON."""
    found = []
    for number, text in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if text.strip():
            try:
                found.append(json.loads(text))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
    return found


def memory(pids: Mapping[str, int]) -> dict[str, float]:
    """Megabytes of each process and its descendants, shared pages counted in part (PSS)."""
    return {name: round(cpu.memory_megabytes(pid), 1) for name, pid in pids.items()}


def overview(lines: Iterable[Mapping[str, Any]]) -> ratios.Table:
    """Medians over runs, each with its spread; of the lines that hold one of these values."""
    fields = ("cpu_us", "per_second", "per_core", "p50_ms", "p95_ms", "p99_ms", "wal_bytes")
    rows = [["scenario", *fields, "runs"]]
    for name, of_name in grouped(lines).items():
        found = [summary(of_name, one) for one in fields]
        if any(found):
            rows.append([name, *map(_cell, found), str(len(of_name))])
    return rows


def _cell(one: Summary | None) -> str:
    if one is None:
        return ""
    return f"{one.median:,.5g}" + (f" ±{one.spread:.0%}" if one.runs > 1 else "")
