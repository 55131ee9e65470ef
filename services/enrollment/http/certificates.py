"""Certificates of devices: what there is, and withdrawing one: /api/v1/enrollment/certificates…"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from services.enrollment.http.api import DIRECTORY, PREFIX, READ, ReasonText
from services.enrollment.withdrawing import REVOKE, Withdrawals
from shared.runtime.http import Page, caller, parse_body, parse_query, render
from shared.runtime.paging import bad_cursor, page_of
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

WITHDRAWALS = web.AppKey("enrollment.withdrawals", Withdrawals)


class CertificateQuery(Page):
    device_id: UUID | None = None


class CertificateView(BaseModel):
    sha256: str
    serial_number: str
    device_id: UUID | None
    enrollment_id: UUID | None
    not_before: datetime
    not_after: datetime
    issued_at: datetime
    revoked_at: datetime | None
    revocation_reason: str | None


class CertificateList(BaseModel):
    items: list[CertificateView]
    next: str | None = None


class Withdrawal(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: ReasonText


async def list_certificates(request: web.Request) -> web.StreamResponse:
    """GET /certificates?device_id=: newest first."""
    query = parse_query(request, CertificateQuery)
    found = await request.config_dict[DIRECTORY].certificates(
        query.device_id,
        caller(request).reach(READ),
        _certificate_key(query.after(2)),
        query.limit + 1,
    )
    rows, cursor = page_of(
        found, query.limit, lambda one: [one.issued_at.isoformat(), one.sha256.hex()]
    )
    items = [
        CertificateView.model_validate({**vars(one), "sha256": one.sha256.hex()}) for one in rows
    ]
    return render(CertificateList(items=items, next=cursor))


async def withdraw(request: web.Request) -> web.StreamResponse:
    """POST /certificates/{sha256}/withdraw: no device enrolls by it any more."""
    body = await parse_body(request, Withdrawal)
    await request.config_dict[WITHDRAWALS].withdraw(_sha256(request), caller(request), body.reason)
    return web.Response(status=204)


def _sha256(request: web.Request) -> bytes:
    try:
        return bytes.fromhex(request.match_info["sha256"])
    except ValueError:
        raise Problem(404, "certificate_unknown", "Name it by its SHA-256.") from None


def _certificate_key(key: list[Any] | None) -> tuple[datetime, bytes] | None:
    if key is None:
        return None
    try:
        at = datetime.fromisoformat(key[0])
        if at.tzinfo is None:
            raise bad_cursor()
        return at, bytes.fromhex(key[1])
    except (ValueError, TypeError):
        raise bad_cursor() from None


ROUTES = (
    Route(
        "GET",
        f"{PREFIX}/certificates",
        list_certificates,
        summary="Device certificates, newest first",
        permission=READ,
        scoped=True,
        query=CertificateQuery,
        answer=CertificateList,
    ),
    Route(
        "POST",
        f"{PREFIX}/certificates/{{sha256}}/withdraw",
        withdraw,
        summary="Withdraw a certificate by which no device has enrolled yet",
        permission=REVOKE,
        body=Withdrawal,
        status=204,
    ),
)
