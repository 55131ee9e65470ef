"""Tables of ratios: one system divided by the other, over rounds that followed each other."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Lines = Sequence[Mapping[str, Any]]
Table = list[list[str]]

_HEAD = [
    "work", "CPU/unit, {other}", "CPU/unit, {mine}", "CPU ratio", "rate, {other}", "rate, {mine}",
    "rate ratio", "p99 ms", "rounds", "wanted", "reached",
]  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What ratios must reach."""

    cpu: float
    rate: float | None = None

    def text(self) -> str:
        return f"CPU ≤ {self.cpu:g}" + (f", rate ≥ {self.rate:g}" if self.rate else "")

    def reached(self, cpu: Ratio, rate: Ratio) -> bool:
        return cpu.median <= self.cpu and (self.rate is None or rate.median >= self.rate)


@dataclass(frozen=True)
class Ratio:
    """The median of ratios of neighbours, and the extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, mine: Sequence[float], others: Sequence[float]) -> Ratio:
        """Pairs are made in order: each round met the same machine. Raises ValueError when the
        rounds do not match.
        """
        pairs = [one / other for one, other in zip(mine, others, strict=True) if other]
        if not pairs:
            raise ValueError("nothing to compare with")
        return cls(statistics.median(pairs), min(pairs), max(pairs))

    def text(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g}–{self.high:.3g})"


def table(
    lines: Lines, *, mine: str, other: str, wanted: Mapping[str, Wanted] | None = None
) -> Table:
    """Header and a row a scenario, in the order of the run; `wanted`: by scenario."""
    names = list(dict.fromkeys(line["scenario"] for line in lines if "scenario" in line))
    rows = [[word.format(mine=mine, other=other) for word in _HEAD]]
    for name in names:
        own, others = (
            [line for line in lines if line.get("scenario") == name and line["system"] == system]
            for system in (mine, other)
        )
        if own and others:
            rows.append(_row(name, own, others, (wanted or {}).get(name)))
    return rows


def _row(name: str, mine: Lines, others: Lines, wanted: Wanted | None) -> list[str]:
    def values(lines: Lines, field: str) -> list[float]:
        return [float(line[field]) for line in lines]

    def middle(lines: Lines, field: str) -> float:
        return statistics.median(values(lines, field))

    cpu = Ratio.of(values(mine, "cpu_us"), values(others, "cpu_us"))
    rate = Ratio.of(values(mine, "per_second"), values(others, "per_second"))
    wrong = any("statuses" in line or "not_handed_out" in line for line in (*mine, *others))
    return [
        name + (" (errors!)" if wrong else ""),
        f"{middle(others, 'cpu_us') / 1000:.3f} ms",
        f"{middle(mine, 'cpu_us') / 1000:.3f} ms",
        cpu.text(),
        f"{middle(others, 'per_second'):,.0f}/s",
        f"{middle(mine, 'per_second'):,.0f}/s",
        rate.text(),
        f"{middle(others, 'p99_ms'):.0f} → {middle(mine, 'p99_ms'):.0f}",
        str(len(mine)),
        wanted.text() if wanted else "",
        ("yes" if wanted.reached(cpu, rate) else "no") if wanted else "",
    ]


def plain(rows: Table) -> str:
    """Columns for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def markdown(rows: Table) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
