"""Push certificates and what was pushed, for people: /api/v1/push/…"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.push_notifier.certificates import Certificates, PushCertificate, days_left
from services.push_notifier.history import WAKE, History
from shared.runtime.http import Page, caller, parse_body, parse_query, render
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

READ = "push.read"
CERTIFICATES = web.AppKey("push_notifier.certificates", Certificates)
HISTORY = web.AppKey("push_notifier.history", History)


class CertificateRequest(BaseModel):
    csr: str
    """PEM; have it signed by your MDM vendor certificate and Apple's push certificate portal."""


class CertificateUpload(BaseModel):
    model_config = ConfigDict(extra="forbid")

    certificate: str = Field(max_length=20_000)
    private_key: str | None = Field(default=None, max_length=20_000, repr=False)
    """Only when the key was not made by a certificate request here."""
    replace_topic: bool = False


class CertificateView(BaseModel):
    topic: str
    fingerprint: str
    not_after: datetime
    days_left: int
    current: bool
    uploaded_at: datetime
    uploaded_by: str
    tried_at: datetime | None
    """When APNs was heard to take it; null: not yet."""


class FormerView(BaseModel):
    topic: str
    fingerprint: str
    not_after: datetime
    uploaded_at: datetime
    uploaded_by: str
    replaced_at: datetime


class CertificateList(BaseModel):
    items: list[CertificateView]
    former: list[FormerView]
    """Replaced by others of the same topic, the latest first: each can be used again."""
    next: str | None = None


class ChannelView(BaseModel):
    channel_id: UUID
    open: bool
    topic: str | None
    push_updated_at: datetime | None
    dead_at: datetime | None
    dead_reason: str | None
    waiting_since: datetime | None
    next_push_at: datetime | None
    attempts: int
    last_push_at: datetime | None
    last_push_id: str | None


class AttemptView(BaseModel):
    attempt_id: UUID
    channel_id: UUID
    sent_at: datetime
    status: int
    reason: str | None


class DevicePushes(BaseModel):
    channels: list[ChannelView]
    items: list[AttemptView]
    next: str | None


class Woken(BaseModel):
    channels: int


def _view(row: PushCertificate, now: datetime) -> CertificateView:
    fields: dict[str, Any] = {name: getattr(row, name) for name in _SHOWN}
    return CertificateView(**fields, days_left=days_left(row, now))


_SHOWN = (
    "topic",
    "fingerprint",
    "not_after",
    "current",
    "uploaded_at",
    "uploaded_by",
    "tried_at",
)


def _device_id(request: web.Request) -> UUID:
    try:
        return UUID(request.match_info["device_id"])
    except ValueError:
        raise Problem(404, "device_unknown", "A device id is a UUID.") from None


async def request_certificate(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/push/certificate-request: a new key and its CSR."""
    csr = await request.config_dict[CERTIFICATES].request(caller(request))
    return render(CertificateRequest(csr=csr), 201)


async def put_certificate(request: web.Request) -> web.StreamResponse:
    """PUT /api/v1/push/certificate: take a signed certificate into use."""
    body, who = await parse_body(request, CertificateUpload), caller(request)
    stored = await request.config_dict[CERTIFICATES].upload(
        body.certificate, body.private_key, who, replace=body.replace_topic
    )
    return render(_view(stored, stored.uploaded_at))


async def use_certificate(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/push/certificates/{fingerprint}/use: go back to one that was replaced."""
    fingerprint = request.match_info["fingerprint"]
    stored = await request.config_dict[CERTIFICATES].go_back(fingerprint, caller(request))
    return render(_view(stored, stored.uploaded_at))


async def list_certificates(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/push/certificates: current ones first, with the days they have left."""
    rows, replaced, now = await request.config_dict[HISTORY].certificates()
    former = [FormerView.model_validate(row, from_attributes=True) for row in replaced]
    return render(CertificateList(items=[_view(row, now) for row in rows], former=former))


async def device_pushes(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/push/devices/{device_id}: its channels, and what was sent, newest first."""
    page = parse_query(request, Page)
    reach = caller(request).reach(READ)
    found = await request.config_dict[HISTORY].of_device(_device_id(request), reach, page)
    return render(DevicePushes.model_validate(found))


async def wake_device(request: web.Request) -> web.StreamResponse:
    """POST /api/v1/push/devices/{device_id}/wake: push now, whether work waits or not."""
    channels = await request.config_dict[HISTORY].wake(_device_id(request), caller(request))
    return render(Woken(channels=channels), 202)


_PUSH = "/api/v1/push"
ROUTES = (
    Route(
        "POST",
        f"{_PUSH}/certificate-request",
        request_certificate,
        permission="push.certificate",
        summary="Make a key and a request for a push certificate",
        answer=CertificateRequest,
        status=201,
    ),
    Route(
        "PUT",
        f"{_PUSH}/certificate",
        put_certificate,
        permission="push.certificate",
        summary="Upload a signed push certificate",
        body=CertificateUpload,
        answer=CertificateView,
    ),
    Route(
        "POST",
        f"{_PUSH}/certificates/{{fingerprint}}/use",
        use_certificate,
        permission="push.certificate",
        summary="Use a replaced push certificate again",
        answer=CertificateView,
    ),
    Route(
        "GET",
        f"{_PUSH}/certificates",
        list_certificates,
        permission=READ,
        summary="List push certificates and their expiry",
        answer=CertificateList,
    ),
    Route(
        "GET",
        f"{_PUSH}/devices/{{device_id}}",
        device_pushes,
        permission=READ,
        scoped=True,
        summary="Show a device's push channels and recent pushes",
        query=Page,
        answer=DevicePushes,
    ),
    Route(
        "POST",
        f"{_PUSH}/devices/{{device_id}}/wake",
        wake_device,
        permission=WAKE,
        scoped=True,
        summary="Push to a device now",
        answer=Woken,
        status=202,
    ),
)
