"""The audit, for people: /api/v1/console/…"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.auditing import Filters
from services.console.http.keys import AUDIT
from shared.runtime.http import Page, parse_query, render
from shared.runtime.paging import page_of
from shared.runtime.routes import Route

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


class AuditQuery(Page):
    actor: _Word | None = None
    action: _Word | None = None
    target: _Word | None = None
    service: Audience | None = None


class AuditView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    event_id: UUID
    service: str
    occurred_at: datetime
    actor: str
    permission: str
    action: str
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str | None
    source: str | None
    correlation_id: str | None


class AuditList(BaseModel):
    items: list[AuditView]
    next: str | None


async def list_audit(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/audit: what everybody did, newest first."""
    query = parse_query(request, AuditQuery)
    filters = Filters(query.actor, query.action, query.target, query.service)
    audit = request.config_dict[AUDIT]
    found = await audit.page(filters, query.after_id(), query.limit + 1)
    rows, following = page_of(found, query.limit, lambda row: [row.event_id])
    return render(AuditList(items=[AuditView.model_validate(row) for row in rows], next=following))


ROUTES = (
    Route(
        "GET",
        "/api/v1/console/audit",
        list_audit,
        permission="audit.read",
        summary="List what people, tokens and rules did",
        query=AuditQuery,
        answer=AuditList,
    ),
)
