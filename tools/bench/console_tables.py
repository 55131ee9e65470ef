"""What `make bench-console` has found, as tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

CLIENTS: Final = 10
"""At once."""
_PROCESSES: Final = ("console", "others", "postgres")

Line = dict[str, Any]
_Pair = Mapping[int, Line]
"""By the number of clients."""


def table(lines: Sequence[Line]) -> str:
    """A row a page, the slowest of ten clients first."""
    rows = sorted(_pairs(lines).items(), key=lambda item: -item[1][CLIENTS]["p95_ms"])
    head = "| page | as | p50 | p95 | p50 of ten | p95 of ten | console | others | PostgreSQL |"
    texts = [head, "|---" * 9 + "|"]
    for (name, who), of_page in rows:
        one, ten = of_page[1], of_page[CLIENTS]
        times = f"{one['p50_ms']} | {one['p95_ms']} | {ten['p50_ms']} | {ten['p95_ms']}"
        costs = " | ".join(str(one["cpu_ms"][process]) for process in _PROCESSES)
        texts.append(f"| {name} | {who} | {times} | {costs} |")
    return "\n".join(texts)


def summary(lines: Sequence[Line]) -> str:
    """A row for pages that are alike: the median of their p50, the slowest p95, mean CPU."""
    kinds: dict[tuple[str, str], list[_Pair]] = {}
    for (name, who), of_page in _pairs(lines).items():
        kinds.setdefault((_kind(name), who), []).append(of_page)
    head = "| pages | as | how many | p50 | slowest p95 | p50 of ten | slowest p95 of ten"
    texts = [f"{head} | console | others | PostgreSQL |", "|---" * 10 + "|"]
    for (kind, who), pages in kinds.items():
        times = " | ".join(
            f"{statistics.median(page[clients]['p50_ms'] for page in pages):.0f}"
            f" | {max(page[clients]['p95_ms'] for page in pages):.0f}"
            for clients in (1, CLIENTS)
        )
        costs = " | ".join(
            _cost([page[1]["cpu_ms"][process] for page in pages]) for process in _PROCESSES
        )
        texts.append(f"| {kind} | {who} | {len(pages)} | {times} | {costs} |")
    return "\n".join(texts)


def _pairs(lines: Sequence[Line]) -> dict[tuple[str, str], dict[int, Line]]:
    """By page and person."""
    found: dict[tuple[str, str], dict[int, Line]] = {}
    for line in lines:
        name = line["scenario"].partition(": ")[2]
        found.setdefault((name, line["who"]), {})[line["clients"]] = line
    return found


def _kind(name: str) -> str:
    """What the page is one of: `devices: search: a name` of `devices: search`, and so on."""
    kind, _, rest = name.partition(": ")
    if kind != "devices":
        return kind
    if rest.startswith("by "):
        return "devices: by"
    if ", by " in rest:
        return "devices: filter, by"
    return "devices: search" if rest.startswith("search") else "devices: filter"


def _cost(found: Sequence[float]) -> str:
    """Milliseconds, mean and most."""
    most = f" (≤ {max(found):.1f})" if len(found) > 1 else ""
    return f"{statistics.fmean(found):.1f}{most}"
