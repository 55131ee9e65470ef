"""GET /api/v1/commands/guard: how the guard stands, for whoever looks whether all is well."""

from __future__ import annotations

from aiohttp import web
from pydantic import BaseModel

from services.command_queue.http.freezes import FreezeView
from services.command_queue.http.powers import PowerView
from services.command_queue.watch import Watch
from shared.runtime.http import caller, render
from shared.runtime.routes import Route

WATCH = web.AppKey("command_queue.watch", Watch)
READ = "command.read"


class GuardView(BaseModel):
    """Callers with rights on some groups are told what is held within these, and no more."""

    held: int
    """Commands that wait for people, counted to 1,000."""
    freezes: list[FreezeView]
    powers: list[PowerView]
    """Who gets power that does not count yet."""
    approvers: int
    """People who could approve now, with an aged key and right on all devices."""
    lifters: int
    lifters_needed: int


async def look(request: web.Request) -> web.StreamResponse:
    """GET /api/v1/commands/guard."""
    found = await request.config_dict[WATCH].look(caller(request).reach(READ))
    return render(
        GuardView(
            held=found.held,
            freezes=[FreezeView(**row) for row in found.freezes],
            powers=[PowerView.model_validate(one) for one in found.powers],
            approvers=found.approvers,
            lifters=found.lifters,
            lifters_needed=found.lifters_needed,
        )
    )


ROUTES = [
    Route(
        "GET",
        "/api/v1/commands/guard",
        look,
        permission=READ,
        scoped=True,
        answer=GuardView,
        summary="Show how the guard stands",
    ),
]
