"""What is kept of a device: that it is, on a tab; and itself, once, to whoever says what for."""

from __future__ import annotations

from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.console.actions import lacking
from services.console.http.device_actions import name_of
from services.console.http.devices import READ
from services.console.http.keys import VIEWS
from services.console.http.pages import ask, ask_surely, page, parse_form, permitted_page, person
from services.console.http.step_up import confirmed
from services.console.http.words import KEPT
from shared.runtime.http import path_id
from shared.runtime.problems import Problem

REVEAL: Final = "secret.reveal"
_SECONDS: Final = 60
"""How long it stays on the screen."""
Values = dict[str, Any]


class RevealForm(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=300)]


async def of_device(request: web.Request, device: Values) -> Values:
    """What the tab shows; `missing`: the permission that it takes to see one."""
    path = f"/api/v1/commands/devices/{device['device_id']}/secrets"
    rows = (await ask(request, "command_queue", "GET", path))["items"]
    names = await request.config_dict[VIEWS].actors([row["actor"] for row in rows])
    for row in rows:
        row |= {"who": names.get(row["actor"], "–"), "what": KEPT[row["kind"]]}
    return {"secrets": rows, "missing": lacking(person(request), device, REVEAL)}


async def reveal(request: web.Request) -> web.StreamResponse:
    """POST /devices/{device_id}/secrets/{secret_id}/reveal: this page alone shows it, and forgets
    it by itself, with a script or without.
    """
    device_id, secret_id = path_id(request, "device_id"), path_id(request, "secret_id")
    form = parse_form(request, RevealForm)
    if not form.reason.strip():
        raise Problem(422, "reason_missing", "Say what for: it is kept in the audit.")
    device = await request.config_dict[VIEWS].device(device_id, person(request).reach(READ))
    if lacks := lacking(person(request), device, REVEAL):
        raise Problem(403, "forbidden", f"This needs the permission {lacks}.")
    await confirmed(request, f"Show a PIN of {name_of(device)}")
    path = f"/api/v1/commands/devices/{device_id}/secrets/{secret_id}/reveal"
    shown = await ask_surely(request, "command_queue", "POST", path, {"reason": form.reason})
    back = f"/devices/{device_id}?tab=secrets"
    answer = page(
        request,
        "device/secret.html",
        device=device,
        what=KEPT[shown["kind"]],
        value=shown["value"],
        seconds=_SECONDS,
        back=back,
    )
    answer.headers["Refresh"] = f"{_SECONDS}; url={back}"
    return answer


ROUTES = (
    permitted_page(
        "POST",
        "/devices/{device_id}/secrets/{secret_id}/reveal",
        reveal,
        REVEAL,
        "Show a secret of a device",
        scoped=True,
    ),
)
