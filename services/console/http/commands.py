"""The screen Commands: what was asked for and how far it is, newest first, live."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from aiohttp import web
from pydantic import AwareDatetime, Field

from services.console.http.device_links import Links
from services.console.http.keys import VIEWS
from services.console.http.pages import ask, page_or_part, parse_pairs, person, query_pairs
from services.console.http.streams import event, stream
from services.console.http.words import COMMAND, SHOWN
from services.console.views.sentences import COMMANDS, command_text
from shared.events.base import uuid7
from shared.runtime.http import Page
from shared.runtime.internal import InternalCallFailed
from shared.runtime.paging import encode_cursor
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

READ: Final = "command.read"
SILENT: Final = "The service that knows the commands does not answer now. Nothing was lost."
_PAUSE_SECONDS: Final = 1.0
"""Any device's news may change any command: a page asks again so seldom."""
Values = dict[str, Any]


class CommandsQuery(Page):
    """The URL of the list. `until`: asked for before this instant."""

    kind: Annotated[str, Field(max_length=100)] | None = None
    state: Literal["active", "held", "finished", "cancelled", "expired"] | None = None
    actor: Annotated[str, Field(max_length=200)] | None = None
    until: AwareDatetime | None = None

    def asked(self) -> str:
        """The same list at command_queue's API."""
        after = self.cursor
        if after is None and self.until is not None:
            after = encode_cursor([str(UUID(int=uuid7(self.until).int >> 80 << 80))])
        given = {"kind": self.kind, "state": self.state, "actor": self.actor, "cursor": after}
        pairs = [("limit", str(self.limit)), *((n, v) for n, v in given.items() if v)]
        return Links("/api/v1/commands", pairs).here


async def list_commands(request: web.Request) -> web.StreamResponse:
    """GET /commands: the list; only its table, when htmx asks for that."""
    pairs = query_pairs(request)
    query = parse_pairs(request, pairs, CommandsQuery)
    found: Values = {"items": [], "next": None}
    trouble = None
    try:
        found = await ask(request, "command_queue", "GET", query.asked())
    except Problem as problem:
        trouble = problem.detail
    except InternalCallFailed:
        trouble = SILENT
    await name_actors(request, found["items"])
    links = Links(request.path, pairs)
    return page_or_part(
        request,
        "commands/index.html",
        "commands/list.html",
        "list",
        query=query,
        found=found,
        trouble=trouble,
        links=links,
        kinds={kind: command_text(kind) for kind in sorted(COMMANDS, key=command_text)},
        states={state: word for state, (word, _) in COMMAND.items()},
        shown=SHOWN,
        as_of=request.config_dict[VIEWS].now(),
    )


async def name_actors(request: web.Request, rows: list[Values]) -> None:
    """Say who and what in words."""
    names = await request.config_dict[VIEWS].actors([row["actor"] for row in rows])
    for row in rows:
        row["who"] = names.get(row["actor"], row["actor"])
        row["what"] = command_text(row["kind"])


async def live_commands(request: web.Request) -> web.StreamResponse:
    """GET /commands/live: a word whenever something may have changed."""

    async def tell(_changed: frozenset[UUID]) -> bytes:
        person(request).reach(READ)
        return event("changed", "")

    return await stream(request, None, tell, pause=_PAUSE_SECONDS)


ROUTES = (
    Route(
        "GET",
        "/commands",
        list_commands,
        page=True,
        permission=READ,
        scoped=True,
        summary="What was asked for, and how far it is",
    ),
    Route(
        "GET",
        "/commands/live",
        live_commands,
        page=True,
        permission=READ,
        scoped=True,
        summary="News of commands",
        stream=True,
    ),
)
