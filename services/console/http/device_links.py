"""The state of a list of devices as it stands in its URL, and links to its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

from aiohttp import web
from pydantic import Field

from services.console.http.device_models import DeviceQuery
from services.console.http.pages import parse_pairs, query_pairs
from services.console.views.filters import Sort


@dataclass(frozen=True)
class Column:
    """A column of the list: its heading, and what it can be sorted by."""

    name: str
    title: str
    sort: Sort | None = None
    shown: bool = True
    """Unless the URL says otherwise."""


COLUMNS: Final = (
    Column("name", "Name", Sort.NAME),
    Column("serial", "Serial", Sort.SERIAL),
    Column("user", "User", Sort.USER),
    Column("model", "Model", Sort.MODEL),
    Column("platform", "Platform", Sort.PLATFORM, shown=False),
    Column("os", "System", Sort.OS),
    Column("ownership", "Ownership", Sort.OWNERSHIP, shown=False),
    Column("supervised", "Supervised", shown=False),
    Column("status", "Status", Sort.STATUS),
    Column("compliance", "Compliance", Sort.COMPLIANCE),
    Column("seen", "Last seen", Sort.SEEN),
    Column("enrolled", "Enrolled", Sort.ENROLLED, shown=False),
    Column("certificate", "Certificate until", Sort.CERTIFICATE, shown=False),
    Column("groups", "Groups", shown=False),
    Column("tags", "Tags", shown=False),
    Column("udid", "UDID", shown=False),
)
_USUAL: Final = {one.name for one in COLUMNS if one.shown and one.name != "name"}
_PAGED: Final = {"cursor", "back"}
_ANEW: Final = {*_PAGED, "limit", "since"}


class ListQuery(DeviceQuery):
    """The URL of the Devices screen."""

    column: Annotated[
        list[Annotated[str, Field(max_length=20)]], Field(default_factory=list, max_length=30)
    ]


def columns_of(names: Sequence[str]) -> Sequence[Column]:
    """The chosen columns in their usual order, the name always; none chosen: the usual ones."""
    if not names:
        return [one for one in COLUMNS if one.shown]
    return [one for one in COLUMNS if one.name in {"name", *names}]


class Links:
    """Links that change one thing of a URL and keep the rest."""

    def __init__(self, path: str, pairs: Sequence[tuple[str, str]]) -> None:
        self._path, self._pairs = path, pairs

    @property
    def here(self) -> str:
        return _url(self._path, self._pairs)

    @property
    def query(self) -> str:
        """What the URL says after the question mark, wherever the page begins."""
        return urlencode([pair for pair in self._pairs if pair[0] not in _ANEW])

    def having(self, **changes: Any) -> str:
        """The same list, changed: it begins anew. None leaves a parameter out."""
        changed = {name: value for name, value in changes.items() if value is not None}
        kept = [
            (name, value)
            for name, value in self._pairs
            if name not in changes and name not in _PAGED
        ]
        return _url(self._path, [*kept, *((name, str(value)) for name, value in changed.items())])

    def at(self, cursor: str, *, back: bool = False) -> str:
        kept = [pair for pair in self._pairs if pair[0] not in _PAGED]
        return _url(self._path, [*kept, ("cursor", cursor), *([("back", "true")] if back else [])])

    def elsewhere(self, path: str) -> str:
        """The same filters and order at another path, such as the CSV's."""
        left_out = {*_PAGED, "column", "limit"}
        return _url(path, [pair for pair in self._pairs if pair[0] not in left_out])

    def since(self, path: str, known: UUID) -> str:
        """The same filters, order and columns, for those who came since this page."""
        return _url(path, [*(p for p in self._pairs if p[0] not in _ANEW), ("since", str(known))])

    def whole(self, path: str) -> str:
        """All devices of the filters at another path, whatever page is shown."""
        left_out = {*_PAGED, "column", "limit"}
        kept = [pair for pair in self._pairs if pair[0] not in left_out]
        return _url(path, [*kept, ("whole", "true")])

    def sorted_by(self, column: Column, query: DeviceQuery) -> str:
        """By this column; the other way round, if it is so already."""
        turned = column.sort == query.sort and not query.descending
        return self.having(sort=column.sort, descending="true" if turned else None)


def query_of(request: web.Request) -> tuple[ListQuery, Links]:
    """The list that a URL means. A form sends empty fields and the usual columns too: a link needs
    neither.
    """
    pairs = query_pairs(request)
    if {value for name, value in pairs if name == "column"} == _USUAL:
        pairs = [pair for pair in pairs if pair[0] != "column"]
    return parse_pairs(request, pairs, ListQuery), Links(request.path, pairs)


def _url(path: str, pairs: Sequence[tuple[str, str]]) -> str:
    return f"{path}?{urlencode(pairs)}" if pairs else path
