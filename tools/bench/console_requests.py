"""What `make bench-console` asks of the lists of devices: every filter, order, search, and CSV."""

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


@dataclass(frozen=True)
class Known:
    """What a device of the fleet is called, to be looked for."""

    serial: str
    name: str
    user: str


def _searches(one: Known) -> dict[str, str]:
    first, *_ = one.name.split()
    return {
        **_SEARCHES,
        "a serial": one.serial,
        "the beginning of a serial": one.serial[:4],
        "a common model": "iphone17,1",
        "a rarer model": "macbook air",
        "an owner": one.user,
        "an owner's first name": first,
        "a word that all have": "example.com",
    }


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


def lists(fleet: Fleet, one: Known) -> list[Asked]:
    """Every list of devices, by name."""
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
        **{f"search: {name}": {"q": text} for name, text in _searches(one).items()},
        "many at once": {
            "platform": "ios",
            "status": "enrolled",
            "compliance": "noncompliant",
            "ownership": "corporate",
            "tag": "Berlin",
            "q": "iphone",
        },
    }
    found = [_list(name, query) for name, query in filters.items()]
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
    return [*found, *orders, *crossed, *_exports(filters)]


def _list(name: str, query: Mapping[str, object]) -> Asked:
    return Asked(f"devices: {name}", f"/devices?{urlencode(query, doseq=True)}")


def _exports(filters: Mapping[str, Mapping[str, object]]) -> list[Asked]:
    return [
        Asked(f"CSV: {name}", f"/devices.csv?{urlencode(filters[name], doseq=True)}", stream=True)
        for name in ("no filter", "status, rare", "search: a name", "tag")
    ]
