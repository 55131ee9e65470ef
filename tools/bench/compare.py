"""`make bench-compare BASE=file NEW=file`: two saved runs, value by value, with a verdict each.

A difference counts only when it is larger than what the runs of one side differ among themselves,
and than what a single run cannot show.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tools.bench import ratios
from tools.bench.results import Summary, grouped, read, summary

Verdict = Literal["better", "worse", "same"]
LESS_IS_BETTER: Final = ("cpu_us", "p50_ms", "p95_ms", "p99_ms", "wal_bytes")
MORE_IS_BETTER: Final = ("per_second", "per_core")
_LEAST = {
    "cpu_us": 0.05,
    "per_second": 0.08,
    "per_core": 0.05,
    "p50_ms": 0.10,
    "p95_ms": 0.15,
    "p99_ms": 0.20,
    "wal_bytes": 0.05,
}
"""Below this part of the value nobody should look for a reason: latencies vary most."""
_SINGLE = 2.0
"""How much more a difference must be when one side has a single run and so no known spread."""


@dataclass(frozen=True)
class Change:
    """One value, before and after."""

    name: str
    value: str
    before: Summary
    after: Summary

    @property
    def ratio(self) -> float:
        return self.after.median / self.before.median if self.before.median else 1.0

    @property
    def noise(self) -> float:
        """The part of the value that a difference must exceed."""
        least = _LEAST[self.value]
        if min(self.before.runs, self.after.runs) == 1:
            least *= _SINGLE
        return max(least, self.before.spread + self.after.spread)

    @property
    def verdict(self) -> Verdict:
        if abs(self.ratio - 1) <= self.noise:
            return "same"
        less = self.ratio < 1
        return "better" if less == (self.value in LESS_IS_BETTER) else "worse"

    def row(self) -> list[str]:
        return [
            self.name,
            self.value,
            _shown(self.before),
            _shown(self.after),
            f"{self.ratio:.2f}",
            f"±{self.noise:.0%}",
            self.verdict,
        ]


def _shown(one: Summary) -> str:
    return f"{one.median:,.6g}" + (f" ±{one.spread:.0%}" if one.runs > 1 else "")


def changes(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[Change]:
    """All values that both runs have, in the order of the first."""
    old, new = grouped(before), grouped(after)
    found = []
    for name in (name for name in old if name in new):
        for value in (*LESS_IS_BETTER, *MORE_IS_BETTER):
            was, now = summary(old[name], value), summary(new[name], value)
            if was and now and (was.median or now.median):
                found.append(Change(name, value, was, now))
    return found


def different_machines(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Facts that make two runs hard to compare."""
    told = [_facts(lines) for lines in (before, after)]
    facts = ("cpu", "cores", "kernel", "python", "postgresql", "kafka")
    return [
        f"{fact}: {told[0].get(fact)} before, {told[1].get(fact)} now"
        for fact in facts
        if told[0].get(fact) != told[1].get(fact)
    ]


def _facts(lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((line["machine"] for line in lines if "machine" in line), {})


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-compare", description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("new", type=Path)
    arguments = parser.parse_args()
    try:
        before, after = read(arguments.base), read(arguments.new)
    except (OSError, ValueError) as error:
        print(f"bench-compare: {error}", file=sys.stderr)
        return 2
    for difference in different_machines(before, after):
        print(f"not the same machine: {difference}", file=sys.stderr)
    found = changes(before, after)
    if not found:
        print("bench-compare: the two runs have no measurement in common", file=sys.stderr)
        return 2
    head = ["scenario", "value", "before", "now", "ratio", "noise", "verdict"]
    print(ratios.plain([head, *(change.row() for change in found)]))
    return 1 if any(change.verdict == "worse" for change in found) else 0


if __name__ == "__main__":
    sys.exit(main())
