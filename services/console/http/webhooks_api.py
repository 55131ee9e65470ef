"""Webhooks for programs: to read. They are made and changed by people, in the console."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from services.console.http.keys import WEBHOOKS
from services.console.http.webhooks import LogQuery
from services.console.webhooks.settings import READ
from shared.runtime.http import parse_query, path_id, render
from shared.runtime.paging import page_of
from shared.runtime.routes import Route


class WebhookView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    webhook_id: UUID
    name: str
    url: str
    event_types: list[str]
    group_id: UUID | None
    enabled: bool
    made_at: datetime
    made_by: str
    failures: int
    waiting: int


class WebhookList(BaseModel):
    items: list[WebhookView]


class DeliveryView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    delivery_id: UUID
    event_id: UUID
    event_type: str
    subject: str
    state: str
    attempts: int
    made_at: datetime
    next_at: datetime
    last_at: datetime | None
    last_result: str | None


class DeliveryList(BaseModel):
    items: list[DeliveryView]
    next: str | None


async def list_webhooks(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/webhooks: without their secrets."""
    found = await request.config_dict[WEBHOOKS].every()
    return render(WebhookList(items=[WebhookView.model_validate(each) for each in found]))


async def list_deliveries(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/console/webhooks/{webhook_id}/deliveries: newest first."""
    query, hooks = parse_query(request, LogQuery), request.config_dict[WEBHOOKS]
    hook = await hooks.one(path_id(request, "webhook_id"))
    found = await hooks.log(hook.webhook_id, query.state, query.after_id(), query.limit + 1)
    rows, following = page_of(found, query.limit, lambda row: [row.delivery_id])
    items = [DeliveryView.model_validate(row) for row in rows]
    return render(DeliveryList(items=items, next=following))


ROUTES = (
    Route(
        "GET",
        "/api/v1/console/webhooks",
        list_webhooks,
        permission=READ,
        summary="List webhooks",
        answer=WebhookList,
    ),
    Route(
        "GET",
        "/api/v1/console/webhooks/{webhook_id}/deliveries",
        list_deliveries,
        permission=READ,
        summary="List what a webhook was told, and what waits",
        query=LogQuery,
        answer=DeliveryList,
    ),
)
