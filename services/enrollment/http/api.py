"""Credentials, devices and their certificates, for people: /api/v1/enrollment/…"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.enrollment import credentials, directory
from services.enrollment.credentials import Credentials, NewCredential, shown
from services.enrollment.directory import Change, Device, Directory
from services.enrollment.handouts import RENEW, Handouts
from services.enrollment.http.devices import HANDOUTS
from services.enrollment.lobby import Lobby
from services.enrollment.quarantine import DECIDE
from shared.events.devices import Ownership, Platform
from shared.runtime.http import Page, caller, parse_body, parse_query, render
from shared.runtime.paging import page_of
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

CREDENTIALS = web.AppKey("enrollment.credentials", Credentials)
DIRECTORY = web.AppKey("enrollment.directory", Directory)
LOBBY = web.AppKey("enrollment.lobby", Lobby)

READ = "enrollment.read"
PREFIX = "/api/v1/enrollment"
ReasonText = Annotated[str, StringConstraints(min_length=1, max_length=300, strip_whitespace=True)]


class CredentialView(BaseModel):
    credential_id: UUID
    name: str
    max_uses: int
    uses: int
    expires_at: datetime
    revoked_at: datetime | None
    platform: Platform | None
    ownership: Ownership
    serial: str | None
    user: str | None
    unsigned_allowed: bool
    created_by: str
    created_at: datetime
    serials: Literal["listed", "any"]
    leaked_at: datetime | None
    """Somebody asked for it from where it never was used, after it was spent or revoked."""


class CredentialCreated(CredentialView):
    enroll_url: str
    """Holds the secret; shown this once."""


class CredentialList(BaseModel):
    items: list[CredentialView]
    next: str | None = None


class DeviceView(BaseModel):
    device_id: UUID
    platform: Platform
    ownership: Ownership
    name: str | None
    serial: str | None
    udid: str | None
    model: str | None
    product: str | None
    os_version: str | None
    build: str | None
    user: str | None
    tags: list[str]
    state: Literal["pending", "enrolled", "quarantined", "ended"]
    current_enrollment: UUID | None
    generation: int | None
    enrolled_at: datetime | None
    end_reason: str | None
    quarantine: bool
    """An enrollment waits for a person's decision."""
    created_at: datetime
    last_seen: datetime | None


class EnrollmentView(BaseModel):
    enrollment_id: UUID
    generation: int
    state: str
    mode: str
    udid: str
    access_rights: int | None
    claimed: dict[str, Any]
    """What the device said of itself; of a quarantined one nothing else is known."""
    reasons: list[str]
    bootstrap_token_escrowed: bool
    authenticated_at: datetime
    enrolled_at: datetime | None
    ended_at: datetime | None
    end_reason: str | None


class DeviceDetail(DeviceView):
    enrollments: list[EnrollmentView]


class DeviceList(BaseModel):
    items: list[DeviceView]
    next: str | None = None


class DeviceQuery(Page):
    platform: Platform | None = None
    state: Literal["pending", "enrolled", "quarantined", "ended"] | None = None
    q: Annotated[str, Field(max_length=100)] | None = None
    """The beginning of a name, serial, UDID or user."""


class Order(BaseModel):
    """Which enrollment, where it is not the obvious one, and why."""

    model_config = ConfigDict(extra="forbid")

    enrollment_id: UUID | None = None
    reason: ReasonText


class Released(BaseModel):
    enrollment_id: UUID


class RevocationOrdered(BaseModel):
    state: Literal["ended", "pending"]
    """`pending`: command_queue has not confirmed yet; it takes effect as soon as it has."""


class RenewalProfile(BaseModel):
    profile: str
    """Base64 of a signed profile, for a `configuration.install` command to this device."""


async def create_credential(request: web.Request) -> web.StreamResponse:
    """POST /credentials: the answer holds the enrollment address, this once."""
    wanted = await parse_body(request, NewCredential)
    made, address = await request.config_dict[CREDENTIALS].create(wanted, caller(request))
    view = CredentialCreated.model_validate({**shown(made), "enroll_url": address})
    return render(view, 201)


async def list_credentials(request: web.Request) -> web.StreamResponse:
    """GET /credentials: newest first."""
    query = parse_query(request, Page)
    after = query.after_id()
    found = await request.config_dict[CREDENTIALS].page(after, query.limit + 1)
    rows, cursor = page_of(found, query.limit, lambda one: [str(one.credential_id)])
    items = [CredentialView.model_validate(shown(one)) for one in rows]
    return render(CredentialList(items=items, next=cursor))


async def revoke_credential(request: web.Request) -> web.StreamResponse:
    """DELETE /credentials/{id}."""
    made = await request.config_dict[CREDENTIALS].revoke(_path_id(request), caller(request))
    return render(CredentialView.model_validate(shown(made)))


async def list_devices(request: web.Request) -> web.StreamResponse:
    """GET /devices?platform=&state=&q=: in the order they were first seen."""
    query = parse_query(request, DeviceQuery)
    found = await request.config_dict[DIRECTORY].page(
        query.after_id(),
        platform=query.platform,
        state=query.state,
        text=query.q,
        reach=caller(request).reach(READ),
        limit=query.limit + 1,
    )
    rows, cursor = page_of(found, query.limit, lambda one: [str(one.device_id)])
    return render(DeviceList(items=[device_view(one) for one in rows], next=cursor))


async def get_device(request: web.Request) -> web.StreamResponse:
    """GET /devices/{id}: with its enrollments, newest first."""
    device, enrollments = await request.config_dict[DIRECTORY].get(
        _path_id(request), caller(request).reach(READ)
    )
    views = [EnrollmentView.model_validate(one, from_attributes=True) for one in enrollments]
    return render(DeviceDetail(**device_view(device).model_dump(), enrollments=views))


async def change_device(request: web.Request) -> web.StreamResponse:
    """PATCH /devices/{id}: name, tags, ownership, user."""
    change = await parse_body(request, Change)
    change_made = request.config_dict[DIRECTORY].change(_path_id(request), change, caller(request))
    return render(device_view(await change_made))


async def release_device(request: web.Request) -> web.StreamResponse:
    """POST /devices/{id}/release: let a quarantined enrollment in."""
    order = await parse_body(request, Order)
    released = await request.config_dict[LOBBY].release_device(
        _path_id(request), order.enrollment_id, caller(request), order.reason
    )
    return render(Released(enrollment_id=released))


async def revoke_device(request: web.Request) -> web.StreamResponse:
    """POST /devices/{id}/revoke: end its enrollment and revoke its certificates."""
    order = await parse_body(request, Order)
    state = await request.config_dict[DIRECTORY].revoke(
        _path_id(request), order.enrollment_id, caller(request), order.reason
    )
    return render({"state": state})


async def renewal_profile(request: web.Request) -> web.StreamResponse:
    """POST /devices/{id}/renewal-profile: a profile that renews its certificate."""
    handouts: Handouts = request.config_dict[HANDOUTS]
    document = await handouts.renewal(_path_id(request), caller(request))
    return render(RenewalProfile(profile=base64.b64encode(document).decode()))


def device_view(device: Device) -> DeviceView:
    values = {name: getattr(device, name) for name in DeviceView.model_fields if name != "user"}
    return DeviceView.model_validate({**values, "user": device.user_name})


def _path_id(request: web.Request) -> UUID:
    try:
        return UUID(request.match_info["id"])
    except ValueError:
        raise Problem(404, "id_unknown", "There is nothing under this id.") from None


ROUTES = (
    Route(
        "POST",
        f"{PREFIX}/credentials",
        create_credential,
        summary="Make an enrollment credential",
        permission=credentials.WRITE,
        body=NewCredential,
        answer=CredentialCreated,
        status=201,
    ),
    Route(
        "GET",
        f"{PREFIX}/credentials",
        list_credentials,
        summary="Enrollment credentials, newest first",
        permission=READ,
        query=Page,
        answer=CredentialList,
    ),
    Route(
        "DELETE",
        f"{PREFIX}/credentials/{{id}}",
        revoke_credential,
        summary="Revoke an enrollment credential",
        permission=credentials.WRITE,
        answer=CredentialView,
    ),
    Route(
        "GET",
        f"{PREFIX}/devices",
        list_devices,
        summary="Devices",
        permission=READ,
        scoped=True,
        query=DeviceQuery,
        answer=DeviceList,
    ),
    Route(
        "GET",
        f"{PREFIX}/devices/{{id}}",
        get_device,
        summary="A device and its enrollments",
        permission=READ,
        scoped=True,
        answer=DeviceDetail,
    ),
    Route(
        "PATCH",
        f"{PREFIX}/devices/{{id}}",
        change_device,
        summary="Change a device's name, tags, ownership or user",
        permission=directory.WRITE,
        scoped=True,
        body=Change,
        answer=DeviceView,
    ),
    Route(
        "POST",
        f"{PREFIX}/devices/{{id}}/release",
        release_device,
        summary="Let a quarantined enrollment in",
        permission=DECIDE,
        scoped=True,
        body=Order,
        answer=Released,
    ),
    Route(
        "POST",
        f"{PREFIX}/devices/{{id}}/revoke",
        revoke_device,
        summary="End an enrollment and revoke its certificates",
        permission=directory.REVOKE,
        scoped=True,
        body=Order,
        answer=RevocationOrdered,
    ),
    Route(
        "POST",
        f"{PREFIX}/devices/{{id}}/renewal-profile",
        renewal_profile,
        summary="A profile that renews a device's certificate",
        permission=RENEW,
        scoped=True,
        answer=RenewalProfile,
    ),
)
