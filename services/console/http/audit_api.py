"""The audit: /api/v1/console/audit"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.console.audit.searching import Filters
from services.console.http.downloads import download
from services.console.http.keys import AUDIT, EVIDENCE, STANDINGS
from shared.runtime.http import Page, parse_query, path_id, render
from shared.runtime.paging import page_of
from shared.runtime.routes import Route

READ = "audit.read"
Audience = Literal[
    "enrollment",
    "command_queue",
    "push_notifier",
    "inventory",
    "compliance",
    "configuration",
    "console",
]
_Word = Annotated[str, Field(max_length=300)]


class AuditFilters(BaseModel):
    """All must hold; `since` counts in, `until` does not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actor: _Word | None = None
    action: _Word | None = None
    target: _Word | None = None
    service: Audience | None = None
    correlation_id: _Word | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None

    def filters(self) -> Filters:
        return Filters(**{name: getattr(self, name) for name in AuditFilters.model_fields})


class AuditQuery(AuditFilters, Page):
    """A page of the list."""


class AuditView(BaseModel):
    """An entry; `erased`: who and what was taken out, and the hashes still hold."""

    event_id: UUID
    service: str
    occurred_at: datetime
    recorded_at: datetime
    action: str
    permission: str
    actor: str | None
    target: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str | None
    source: str | None
    via: str | None
    """The session or API token that acted."""
    correlation_id: str | None
    erased: bool


class AuditDetail(AuditView):
    """With its place in the chain."""

    topic: str
    partition: int
    position: int
    offset: int
    previous: str
    hash: str
    content_hash: str


class RootView(BaseModel):
    """As it was signed."""

    number: int
    signed_at: str
    previous: str
    heads: str
    chains: int
    links: int
    key_id: str
    signature: str


class KeyView(BaseModel):
    key_id: str
    public_key: str
    """Ed25519, in hex."""
    first_used: datetime


class CheckView(BaseModel):
    """What the console's own look at its audit found."""

    checked_at: datetime
    root: int | None
    whole_at: datetime
    links: int
    fault_kind: str | None
    fault: str | None


class StateView(BaseModel):
    """`word`: holds, broken, unsigned (no root for minutes), unchecked (nobody looked lately)."""

    word: str
    root: RootView | None
    keys: list[KeyView]
    check: CheckView | None
    as_of: datetime


class AuditList(BaseModel):
    items: list[AuditView]
    next: str | None


async def list_audit(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/audit: what everybody did, newest first."""
    query = parse_query(request, AuditQuery)
    audit = request.config_dict[AUDIT]
    found = await audit.page(query.filters(), query.after_id(), query.limit + 1)
    rows, following = page_of(found, query.limit, lambda row: [row["event_id"]])
    return render(AuditList(items=[AuditView.model_validate(row) for row in rows], next=following))


async def show_entry(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/audit/entries/{event_id}: one entry and its link."""
    row = await request.config_dict[AUDIT].one(path_id(request, "event_id"))
    return render(AuditDetail.model_validate(row))


async def show_state(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/audit/state: the last root, the keys, and whether the chains hold."""
    found = await request.config_dict[STANDINGS].now()
    keys = [{**key, "public_key": key["public_key"].hex()} for key in found.keys]
    values = {"word": found.word, "keys": keys, "check": found.check, "as_of": found.as_of}
    root = found.root and found.root.told
    return render(StateView.model_validate({**values, "root": root}))


async def export_audit(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/audit/export: whole chains under their roots, for `muster audit verify`.

    Of a filtered one all links are there; the content of what was not asked for is withheld.
    """
    return await send_export(request, parse_query(request, AuditFilters))


async def send_export(request: web.Request, query: AuditFilters) -> web.StreamResponse:
    chunks = request.config_dict[EVIDENCE].lines(query.filters())
    return await download(request, chunks, "application/jsonl; charset=utf-8", "audit.jsonl")


ROUTES = (
    Route(
        "GET",
        "/api/v1/console/audit",
        list_audit,
        permission=READ,
        summary="List what people, tokens and rules did",
        query=AuditQuery,
        answer=AuditList,
    ),
    Route(
        "GET",
        "/api/v1/console/audit/state",
        show_state,
        permission=READ,
        summary="Show the last root of the audit, its keys, and whether its chains hold",
        answer=StateView,
    ),
    Route(
        "GET",
        "/api/v1/console/audit/export",
        export_audit,
        permission=READ,
        summary="Export the audit as JSON lines that can be verified offline",
        query=AuditFilters,
        stream=True,
    ),
    Route(
        "GET",
        "/api/v1/console/audit/entries/{event_id}",
        show_entry,
        permission=READ,
        summary="Show an entry and its place in the chain",
        answer=AuditDetail,
    ),
)
