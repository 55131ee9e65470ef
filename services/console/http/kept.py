"""What a form says and no page says again: pages that show the form once more have it encrypted,
for the same person and the same address, and it comes back with them (decision 76).
"""

from __future__ import annotations

import base64

from aiohttp import web

from services.console.http.keys import FORMS
from services.console.http.pages import person
from services.console.http.step_up import carry
from shared.sealed import SealError


def put_away(request: web.Request, name: str, value: str) -> str:
    """Have the request stand for this value without saying it; what `brought_back` takes."""
    sealed = request.config_dict[FORMS].encrypt(
        value.encode(), table="form", column=name, row=_row(request)
    )
    kept = base64.b64encode(sealed).decode()
    carry(request, name, "")
    carry(request, "kept", kept)
    return kept


def brought_back(request: web.Request, name: str, kept: str) -> str | None:
    """The value; None for what was kept for somebody else, or elsewhere, or by no key of today."""
    try:
        sealed = base64.b64decode(kept, validate=True)
        opened = request.config_dict[FORMS].decrypt(
            sealed, table="form", column=name, row=_row(request)
        )
    except (SealError, ValueError):
        return None
    return opened.decode()


def _row(request: web.Request) -> str:
    return f"{person(request).account_id} {request.path}"
