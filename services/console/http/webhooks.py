"""Pages about webhooks: who is told, what they were told, and telling it again."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.http.devices import READ as INVENTORY
from services.console.http.keys import DIRECTORY, NAMING, WEBHOOKS
from services.console.http.pages import go_to, page, parse_form, permitted_page, person
from services.console.http.people import where
from services.console.http.step_up import confirmed
from services.console.http.words import DELIVERY
from services.console.webhooks.keeping import OFFERED
from services.console.webhooks.settings import READ, WRITE
from shared.runtime.http import Page, parse_query, path_id
from shared.runtime.paging import page_of

_PAGE = "/settings/webhooks"
_TypeName = Annotated[str, Field(max_length=200)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WebhookForm(_Form):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    url: Annotated[str, Field(min_length=1, max_length=1000)]
    event_type: list[_TypeName] = []
    group: UUID | None = None


class UseForm(_Form):
    enabled: bool


class AgainForm(_Form):
    delivery: UUID | None = None


class LogQuery(Page):
    """Of a delivery log."""

    state: Literal["waiting", "delivered", "dead"] | None = None


async def list_webhooks(request: web.Request) -> web.StreamResponse:
    """GET /settings/webhooks."""
    hooks = await request.config_dict[WEBHOOKS].every()
    groups = await request.config_dict[DIRECTORY].group_names()
    return page(request, "webhooks/list.html", hooks=hooks, groups=groups, offered=OFFERED)


async def make(request: web.Request) -> web.StreamResponse:
    """POST /settings/webhooks: one that is told from now on; its secret is shown this once."""
    form, who = parse_form(request, WebhookForm), person(request)
    hooks = request.config_dict[WEBHOOKS]
    hooks.check(who, form.url, form.event_type)
    place = await where(request, form.group)
    types = ", ".join(sorted(set(form.event_type)))
    await confirmed(request, f"Tell {form.url} of {types}, {place}")
    webhook_id, secret = await hooks.add(who, form.name, form.url, form.event_type, form.group)
    return page(
        request, "webhooks/secret.html", name=form.name, webhook_id=webhook_id, secret=secret
    )


async def show(request: web.Request) -> web.StreamResponse:
    """GET /settings/webhooks/{webhook_id}?state=: what it was told, newest first."""
    query, hooks = parse_query(request, LogQuery), request.config_dict[WEBHOOKS]
    hook = await hooks.one(path_id(request, "webhook_id"))
    found = await hooks.log(hook.webhook_id, query.state, query.after_id(), query.limit + 1)
    rows, following = page_of(found, query.limit, lambda row: [row.delivery_id])
    groups = await request.config_dict[DIRECTORY].group_names()
    about: dict[str, Any] = {}
    if person(request).may(INVENTORY):
        about = await request.config_dict[NAMING].subjects(row.subject for row in rows)
    return page(
        request,
        "webhooks/one.html",
        hook=hook,
        about=about,
        states=DELIVERY,
        groups=groups,
        deliveries=rows,
        next=following,
        state=query.state or "",
    )


async def use(request: web.Request) -> web.StreamResponse:
    """POST /settings/webhooks/{webhook_id}/use."""
    form, who = parse_form(request, UseForm), person(request)
    hooks = request.config_dict[WEBHOOKS]
    hook = await hooks.one(path_id(request, "webhook_id"))
    act = "Tell" if form.enabled else "Do not tell"
    await confirmed(request, f"{act} {hook.url} of events")
    await hooks.set_use(who, hook.webhook_id, enabled=form.enabled)
    return go_to(f"{_PAGE}/{hook.webhook_id}")


async def again(request: web.Request) -> web.StreamResponse:
    """POST /settings/webhooks/{webhook_id}/again: one delivery, or all that are dead."""
    form, who = parse_form(request, AgainForm), person(request)
    hooks = request.config_dict[WEBHOOKS]
    hook = await hooks.one(path_id(request, "webhook_id"))
    await hooks.again(who, hook.webhook_id, form.delivery)
    return go_to(f"{_PAGE}/{hook.webhook_id}")


_ONE = f"{_PAGE}/{{webhook_id}}"
ROUTES = (
    permitted_page("GET", _PAGE, list_webhooks, READ, "Webhooks"),
    permitted_page("POST", _PAGE, make, WRITE, "Make a webhook"),
    permitted_page("GET", _ONE, show, READ, "What a webhook was told"),
    permitted_page("POST", f"{_ONE}/use", use, WRITE, "Tell a webhook, or not"),
    permitted_page("POST", f"{_ONE}/again", again, WRITE, "Tell a webhook again"),
)
