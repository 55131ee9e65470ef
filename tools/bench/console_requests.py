"""What `make bench-console` asks: every page, filter, order and search, and a list's CSV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from services.console.views.filters import Seen, Sort
from tools.bench.console_fleet import SMALL_GROUP, Fleet


@dataclass(frozen=True)
class Asked:
    """A request by its name; of a CSV the first byte counts."""

    name: str
    path: str
    stream: bool = False


_SEARCHES: Final[Mapping[str, str]] = {
    "one letter": "a",
    "two letters": "ad",
    "in every name": "phone",
    "a name": "turing",
    "two words": "lovelace 17",
    "four digits": "0815",
    "the end of a serial": "X7",
    "nothing": "qqqqqq",
}


def requests(fleet: Fleet) -> list[Asked]:
    """Everything that is asked of a fleet, by name."""
    small, large = fleet.groups[SMALL_GROUP], fleet.groups[1]
    filters: dict[str, dict[str, object]] = {
        "no filter": {},
        "platform": {"platform": "macos"},
        "two platforms": {"platform": ["ios", "ipados"]},
        "system": {"os": "17"},
        "a rare system": {"os": "16.7.10", "platform": "ipados"},
        "an older system": {"os_below": "17"},
        "status, common": {"status": "enrolled"},
        "status, rare": {"status": "quarantined"},
        "compliance, common": {"compliance": "compliant"},
        "compliance, rare": {"compliance": "error"},
        "ownership": {"ownership": "personal"},
        "tag": {"tag": "Oslo"},
        "group, small": {"group": str(small)},
        "group, large": {"group": str(large)},
        "policy": {"failing": str(fleet.policies[0])},
        "expiring": {"expiring": "true"},
        "supervised": {"supervised": "true"},
        **{f"seen {seen}": {"seen": seen} for seen in Seen},
        **{f"search: {name}": {"q": text} for name, text in _SEARCHES.items()},
        "many at once": {
            "platform": "ios",
            "status": "enrolled",
            "compliance": "noncompliant",
            "ownership": "corporate",
            "tag": "Berlin",
            "q": "iphone",
        },
    }
    lists = [_list(name, query) for name, query in filters.items()]
    orders = [
        _list(f"by {sort}{', down' if down else ''}", {"sort": sort, "descending": down})
        for sort in Sort
        for down in ("", "true")
    ]
    crossed = [
        _list(f"{name}, by {sort}", {**filters[name], "sort": sort, "descending": "true"})
        for name in ("status, rare", "compliance, rare", "group, small", "search: a name", "tag")
        for sort in (Sort.SEEN, Sort.OS, Sort.NAME)
    ]
    return [*_pages(fleet), *lists, *orders, *crossed, *_exports(filters)]


def _list(name: str, query: Mapping[str, object]) -> Asked:
    return Asked(f"devices: {name}", f"/devices?{urlencode(query, doseq=True)}")


def _pages(fleet: Fleet) -> list[Asked]:
    device = f"/devices/{fleet.ids[len(fleet.ids) // 2]}"
    return [
        Asked("overview", "/"),
        *(
            Asked(f"device: {tab}", f"{device}?tab={tab}")
            for tab in ("overview", "compliance", "timeline")
        ),
        Asked("API: devices", "/api/v1/console/devices"),
        Asked("API: overview", "/api/v1/console/overview"),
    ]


def _exports(filters: Mapping[str, Mapping[str, object]]) -> list[Asked]:
    return [
        Asked(f"CSV: {name}", f"/devices.csv?{urlencode(filters[name], doseq=True)}", stream=True)
        for name in ("no filter", "status, rare", "search: a name", "tag")
    ]
