"""The list of serials that may enroll: /api/v1/enrollment/serials…"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, Field

from services.enrollment import serials
from services.enrollment.http.api import PREFIX, READ
from services.enrollment.serials import NewSerials, OldSerials, Read, Serials
from shared.runtime.http import Page, caller, parse_body, parse_query, read_body, render
from shared.runtime.paging import page_of
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

SERIALS = web.AppKey("enrollment.serials", Serials)
MAX_BODY = 4 * 1024 * 1024
_READERS: dict[str, Callable[[bytes], Read]] = {
    "text/csv": serials.read_csv,
    "application/jsonl": serials.read_lines,
    "application/x-ndjson": serials.read_lines,
}


class SerialView(BaseModel):
    serial: str
    note: str | None
    added_by: str
    added_at: datetime


class SerialList(BaseModel):
    items: list[SerialView]
    next: str | None = None


class SerialQuery(Page):
    q: Annotated[str, Field(max_length=100)] | None = None
    """The beginning of a serial."""


class SerialsChanged(BaseModel):
    changed: int
    """Those that were on the list already, or were not, are left as they are."""


class BadRow(BaseModel):
    row: int
    """The line of the file, from 1."""
    why: str


class SerialsImported(BaseModel):
    listed: int
    known: int
    """They were on the list before."""
    refused: int
    bad: list[BadRow]
    """The first hundred rows that were refused; all others count."""


async def list_serials(request: web.Request) -> web.StreamResponse:
    """GET /serials?q=: in their order."""
    query = parse_query(request, SerialQuery)
    key = query.after(1)
    after = str(key[0]) if key else None
    found = await request.config_dict[SERIALS].page(after, query.q, query.limit + 1)
    rows, cursor = page_of(found, query.limit, lambda one: [one.serial])
    items = [SerialView.model_validate(one, from_attributes=True) for one in rows]
    return render(SerialList(items=items, next=cursor))


async def add_serials(request: web.Request) -> web.StreamResponse:
    """POST /serials."""
    wanted = await parse_body(request, NewSerials)
    rows = dict.fromkeys(wanted.serials, wanted.note or None)
    changed = await request.config_dict[SERIALS].add(rows.items(), caller(request))
    return render(SerialsChanged(changed=changed))


async def remove_serials(request: web.Request) -> web.StreamResponse:
    """POST /serials/remove."""
    wanted = await parse_body(request, OldSerials)
    changed = await request.config_dict[SERIALS].remove(wanted.serials, caller(request))
    return render(SerialsChanged(changed=changed))


async def import_serials(request: web.Request) -> web.StreamResponse:
    """POST /serials/import: a file as text/csv or application/jsonl; good rows count."""
    reader = _READERS.get(request.content_type)
    if reader is None:
        known = " or ".join(_READERS)
        raise Problem(415, "file_wanted", f"Send the file as {known}.")
    read = reader(await read_body(request))
    added = await request.config_dict[SERIALS].add(read.rows.items(), caller(request))
    report = SerialsImported(
        listed=added,
        known=len(read.rows) - added,
        refused=read.refused,
        bad=[BadRow(row=row, why=why) for row, why in read.bad],
    )
    return render(report)


ROUTES = (
    Route(
        "GET",
        f"{PREFIX}/serials",
        list_serials,
        summary="Serials that may enroll",
        permission=READ,
        query=SerialQuery,
        answer=SerialList,
    ),
    Route(
        "POST",
        f"{PREFIX}/serials",
        add_serials,
        summary="Let hardware enroll, by serial",
        permission=serials.WRITE,
        body=NewSerials,
        answer=SerialsChanged,
    ),
    Route(
        "POST",
        f"{PREFIX}/serials/remove",
        remove_serials,
        summary="Take serials off the list",
        permission=serials.WRITE,
        body=OldSerials,
        answer=SerialsChanged,
    ),
    Route(
        "POST",
        f"{PREFIX}/serials/import",
        import_serials,
        summary="Let hardware enroll, by a file of serials (text/csv or application/jsonl)",
        permission=serials.WRITE,
        answer=SerialsImported,
        max_body=MAX_BODY,
    ),
)
