"""Who waits for a person's decision: /api/v1/enrollment/lobby…"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field

from services.enrollment.http.api import LOBBY, PREFIX, READ, DeviceView, ReasonText, device_view
from services.enrollment.lobby import Waiting, Wanted
from services.enrollment.quarantine import DECIDE
from shared.events.devices import Ownership
from shared.runtime.http import Page, caller, parse_body, parse_query, path_id, render
from shared.runtime.paging import page_of
from shared.runtime.routes import Handler, Route

_Decision = Literal["released", "refused", "expired", "left"]


class LobbyQuery(Page):
    state: Literal["waiting", "released", "refused", "expired", "left", "any"] = "waiting"
    reason: Annotated[str, Field(max_length=50)] | None = None
    """A code: docs/lobby.md lists them."""
    credential_id: UUID | None = None
    address: Annotated[str, Field(max_length=50)] | None = None
    """Where it checked in from, or where its profile was asked for."""
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None


class WaitingView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    enrollment_id: UUID
    device_id: UUID
    """Of the device it claims to be; of a new one where nobody bears its names."""
    udid: str
    conflicts_with: UUID | None
    """The device that already holds this hardware's identity."""
    reasons: list[str]
    score: int
    credential_id: UUID | None
    credential_name: str | None
    handed_to: str | None
    """Where its profile was asked for; null where the peer is a proxy of ours."""
    address: str | None
    """Where it checked in from."""
    waits_since: datetime
    expires_at: datetime
    """Refused then, if nobody decides."""
    decision: _Decision | None
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None
    claimed: dict[str, Any]
    """What it says of itself; nothing of it is proven."""
    mode: str
    ownership: Ownership
    user: Annotated[str | None, Field(validation_alias=AliasChoices("user_name", "user"))]
    authenticated_at: datetime


class WaitingList(BaseModel):
    items: list[WaitingView]
    next: str | None = None


class WaitingDetail(WaitingView):
    device: DeviceView | None = None
    """What is known of the device it may be impersonating; null: nobody bears its names."""


class LobbyCounts(BaseModel):
    waiting: int
    oldest: datetime | None
    by_reason: dict[str, int]


class GroupQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    by: Literal["credential", "address"]


class LobbyGroup(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    what: str
    """Id of the credential, or the address."""
    name: str | None
    waiting: int
    released: int
    refused: int
    latest: datetime


class LobbyGroups(BaseModel):
    items: list[LobbyGroup]
    """At most a hundred, those first that most wait of."""


class Decided(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: ReasonText


async def list_waiting(request: web.Request) -> web.StreamResponse:
    """GET /lobby: newest first."""
    query = parse_query(request, LobbyQuery)
    wanted = Wanted(**query.model_dump(exclude={"limit", "cursor"}))
    reach = caller(request).reach(READ)
    lobby = request.config_dict[LOBBY]
    found = await lobby.page(wanted, reach, query.after_id(), query.limit + 1)
    rows, cursor = page_of(found, query.limit, lambda one: [str(one.enrollment_id)])
    return render(WaitingList(items=[_view(one) for one in rows], next=cursor))


async def count_waiting(request: web.Request) -> web.StreamResponse:
    """GET /lobby/counts."""
    counts = await request.config_dict[LOBBY].counts(caller(request).reach(READ))
    all_of_them = next((one for one in counts if one.reason is None), None)
    view = LobbyCounts(
        waiting=all_of_them.waiting if all_of_them else 0,
        oldest=all_of_them.oldest if all_of_them else None,
        by_reason={one.reason: one.waiting for one in counts if one.reason},
    )
    return render(view)


async def group_waiting(request: web.Request) -> web.StreamResponse:
    """GET /lobby/groups?by=credential or address."""
    query = parse_query(request, GroupQuery)
    groups = await request.config_dict[LOBBY].groups(query.by, caller(request).reach(READ))
    return render(LobbyGroups(items=[LobbyGroup.model_validate(one) for one in groups]))


async def get_waiting(request: web.Request) -> web.StreamResponse:
    """GET /lobby/{enrollment_id}: beside the device it may be impersonating."""
    enrollment_id, reach = path_id(request, "enrollment_id"), caller(request).reach(READ)
    detail = await request.config_dict[LOBBY].get(enrollment_id, reach)
    device = device_view(detail.device) if detail.device else None
    return render(WaitingDetail(**_view(detail.waiting).model_dump(), device=device))


async def release(request: web.Request) -> web.StreamResponse:
    """POST /lobby/{enrollment_id}/release."""
    enrollment_id = path_id(request, "enrollment_id")
    order = await parse_body(request, Decided)
    lobby = request.config_dict[LOBBY]
    return render(_view(await lobby.release(enrollment_id, caller(request), order.reason)))


async def refuse(request: web.Request) -> web.StreamResponse:
    """POST /lobby/{enrollment_id}/refuse."""
    enrollment_id = path_id(request, "enrollment_id")
    order = await parse_body(request, Decided)
    lobby = request.config_dict[LOBBY]
    return render(_view(await lobby.refuse(enrollment_id, caller(request), order.reason)))


def _view(waiting: Waiting) -> WaitingView:
    return WaitingView.model_validate(waiting)


def _get(
    path: str,
    handler: Handler,
    summary: str,
    answer: type[BaseModel],
    query: type[BaseModel] | None = None,
) -> Route:
    return Route(
        "GET",
        f"{PREFIX}/lobby{path}",
        handler,
        summary=summary,
        permission=READ,
        scoped=True,
        query=query,
        answer=answer,
    )


def _decision(word: str, handler: Handler, summary: str) -> Route:
    return Route(
        "POST",
        f"{PREFIX}/lobby/{{enrollment_id}}/{word}",
        handler,
        summary=summary,
        permission=DECIDE,
        scoped=True,
        body=Decided,
        answer=WaitingView,
    )


ROUTES = (
    _get("", list_waiting, "Enrollments in the lobby, newest first", WaitingList, LobbyQuery),
    _get("/counts", count_waiting, "How many wait in the lobby, and why", LobbyCounts),
    _get("/groups", group_waiting, "The lobby by credential or address", LobbyGroups, GroupQuery),
    _get("/{enrollment_id}", get_waiting, "An enrollment in the lobby", WaitingDetail),
    _decision("release", release, "Let in what waits in the lobby"),
    _decision("refuse", refuse, "Refuse what waits in the lobby"),
)
