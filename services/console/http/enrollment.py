"""The screen Enrollment: addresses that let devices in, and the certificate that wakes them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import segno
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.http.keys import VIEWS
from services.console.http.lobby import waiting_now
from services.console.http.pages import (
    ask,
    ask_surely,
    go_to,
    page,
    paged,
    parse_form,
    permitted_page,
    person,
)
from services.console.http.step_up import confirmed
from services.console.http.words import CHOICES, SHOWN
from shared.events.devices import Ownership, Platform
from shared.runtime.http import Page, parse_query
from shared.runtime.internal import InternalCallFailed
from shared.runtime.problems import Problem
from shared.runtime.routes import Handler, Route

READ, WRITE = "enrollment.read", "enrollment.credential.write"
PUSH_READ, PUSH_WRITE = "push.read", "push.certificate"
_CREDENTIALS: Final = "/api/v1/enrollment/credentials"
_PUSH: Final = "/api/v1/push"
_HERE: Final = "/enrollment"
_MAX_BODY: Final = 65536
_Text = Annotated[str, Field(min_length=1, max_length=200)]
Values = dict[str, Any]


class CredentialForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: _Text
    uses: Annotated[int, Field(ge=1, le=100_000)] = 1
    days: Annotated[int, Field(ge=1, le=365)] = 7
    ownership: Ownership = Ownership.CORPORATE
    platform: Platform | None = None
    serial: _Text | None = None
    serials: Literal["listed", "any"] = "listed"
    user: _Text | None = None


class CertificateForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    certificate: Annotated[str, Field(min_length=1, max_length=20_000)]
    replace_topic: bool = False


async def show_enrollment(request: web.Request) -> web.StreamResponse:
    """GET /enrollment: credentials, and push certificates with their ends."""
    query = parse_query(request, Page)
    now = request.config_dict[VIEWS].now()
    credentials, trouble = await _of(request, "enrollment", paged(_CREDENTIALS, query), READ)
    certificates, silent = await _of(request, "push_notifier", f"{_PUSH}/certificates", PUSH_READ)
    former = certificates.get("former", [])
    names = await request.config_dict[VIEWS].actors(
        [row["created_by"] for row in credentials["items"]]
        + [row["uploaded_by"] for row in [*certificates["items"], *former]]
    )
    for row in credentials["items"]:
        row |= {"who": names.get(row["created_by"], "–"), "state": _state(row, now)}
    for row in [*certificates["items"], *former]:
        row["who"] = names.get(row["uploaded_by"], "–")
    return page(
        request,
        "enrollment/index.html",
        credentials=credentials,
        waiting=await waiting_now(request),
        trouble=trouble,
        certificates=certificates["items"],
        former=former,
        silent=silent,
        platforms=CHOICES["platform"],
        ownerships=CHOICES["ownership"],
        shown=SHOWN,
        query=query,
        as_of=now,
    )


async def _of(
    request: web.Request, service: str, path: str, permission: str
) -> tuple[Values, str | None]:
    """A list of another service, or why it is not shown; the rest of the page is."""
    nothing: Values = {"items": [], "next": None}
    if not person(request).may(permission):
        return nothing, f"This needs the permission {permission}."
    try:
        return await ask(request, service, "GET", path), None
    except Problem as problem:
        return nothing, problem.detail
    except InternalCallFailed:
        return nothing, "The service that knows this does not answer now. Try again soon."


def _state(row: Values, now: datetime) -> str:
    if row["revoked_at"]:
        return "revoked"
    if row["uses"] >= row["max_uses"]:
        return "used_up"
    return "over" if datetime.fromisoformat(row["expires_at"]) <= now else "open"


async def make_credential(request: web.Request) -> web.StreamResponse:
    """POST /enrollment/credentials: a new address; this page alone shows it."""
    form = parse_form(request, CredentialForm)
    body: Values = {
        "name": form.name,
        "max_uses": form.uses,
        "expires_at": request.config_dict[VIEWS].now() + timedelta(days=form.days),
        "ownership": form.ownership,
        "platform": form.platform,
        "serial": form.serial,
        "serials": form.serials,
        "user": form.user,
    }
    made = await ask_surely(request, "enrollment", "POST", _CREDENTIALS, body)
    address = made["enroll_url"]
    picture = segno.make(address, error="m").svg_data_uri(scale=5, border=3, light="white")
    return page(request, "enrollment/new.html", made=made, address=address, picture=picture)


async def revoke_credential(request: web.Request) -> web.StreamResponse:
    """POST /enrollment/credentials/{credential_id}/revoke: it lets nobody in any more."""
    try:
        credential_id = UUID(request.match_info["credential_id"])
    except ValueError:
        raise Problem(404, "credential_unknown", "There is no such credential.") from None
    await ask_surely(request, "enrollment", "DELETE", f"{_CREDENTIALS}/{credential_id}")
    return go_to(_HERE)


async def request_certificate(request: web.Request) -> web.StreamResponse:
    """POST /enrollment/push/request: a request to be signed by the push vendor."""
    made = await ask_surely(request, "push_notifier", "POST", f"{_PUSH}/certificate-request")
    return page(request, "enrollment/request.html", csr=made["csr"])


async def upload_certificate(request: web.Request) -> web.StreamResponse:
    """POST /enrollment/push/certificate: take a signed certificate."""
    form = parse_form(request, CertificateForm)
    await confirmed(request, "Replace the push certificate: a wrong one silences the whole fleet")
    await ask_surely(
        request, "push_notifier", "PUT", f"{_PUSH}/certificate", form.model_dump(mode="json")
    )
    return go_to(_HERE)


async def use_certificate(request: web.Request) -> web.StreamResponse:
    """POST /enrollment/push/certificates/{fingerprint}/use: back to one that was replaced."""
    fingerprint = request.match_info["fingerprint"]
    if not fingerprint.isalnum():
        raise Problem(404, "certificate_unknown", "There is no such certificate.")
    await confirmed(request, "Use a replaced push certificate again")
    path = f"{_PUSH}/certificates/{fingerprint}/use"
    await ask_surely(request, "push_notifier", "POST", path)
    return go_to(_HERE)


def _post(path: str, handler: Handler, permission: str, summary: str) -> Route:
    where = f"{_HERE}{path}"
    return permitted_page("POST", where, handler, permission, summary, max_body=_MAX_BODY)


ROUTES = (
    Route(
        "GET",
        _HERE,
        show_enrollment,
        page=True,
        permission=READ,
        summary="How devices come in, and the certificate that wakes them",
    ),
    _post("/credentials", make_credential, WRITE, "Make an enrollment credential"),
    _post("/credentials/{credential_id}/revoke", revoke_credential, WRITE, "Revoke a credential"),
    _post("/push/request", request_certificate, PUSH_WRITE, "Request a push certificate"),
    _post("/push/certificate", upload_certificate, PUSH_WRITE, "Upload a push certificate"),
    _post(
        "/push/certificates/{fingerprint}/use",
        use_certificate,
        PUSH_WRITE,
        "Use a replaced push certificate again",
    ),
)
