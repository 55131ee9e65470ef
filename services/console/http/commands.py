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
from services.console.views.filters import as_id
from services.console.views.sentences import COMMANDS, command_text
from shared.runtime.http import Page
from shared.runtime.internal import InternalCallFailed
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

READ: Final = "command.read"
DEVICES: Final = "inventory.read"
SILENT: Final = "The service that knows the commands does not answer now. Nothing was lost."
_PAUSE_SECONDS: Final = 1.0
"""Any device's news may change any command: a page asks again so seldom."""
Values = dict[str, Any]
_NONE: Final[Values] = {"items": [], "next": None}


class CommandsQuery(Page):
    """The URL of the list. Asked for from `since` on, and before `until`."""

    kind: Annotated[str, Field(max_length=100)] | None = None
    state: Literal["active", "held", "finished", "cancelled", "expired"] | None = None
    actor: Annotated[str, Field(max_length=200)] | None = None
    device: Annotated[str, Field(max_length=300)] | None = None
    """Its id, serial number or name."""
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None

    def asked(self, device_id: UUID | None) -> str:
        """The same list at command_queue's API."""
        given = self.model_dump(mode="json", exclude_none=True)
        if device_id is not None:
            given["device"] = str(device_id)
        return Links("/api/v1/commands", list(given.items())).here


async def list_commands(request: web.Request) -> web.StreamResponse:
    """GET /commands: the list; only its table, when htmx asks for that."""
    pairs = query_pairs(request)
    query = parse_pairs(request, pairs, CommandsQuery)
    device_id, called = await _device(request, query.device)
    found, trouble = _NONE, None
    if query.device is None or device_id is not None:
        found, trouble = await _found(request, query.asked(device_id))
    else:
        trouble = f"No device that you see is called {query.device}."
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
        called=called,
        kinds={kind: command_text(kind) for kind in sorted(COMMANDS, key=command_text)},
        states={state: word for state, (word, _) in COMMAND.items()},
        shown=SHOWN,
        as_of=request.config_dict[VIEWS].now(),
    )


async def _found(request: web.Request, path: str) -> tuple[Values, str | None]:
    """The page, or why there is none."""
    try:
        return await ask(request, "command_queue", "GET", path), None
    except Problem as problem:
        return _NONE, problem.detail
    except InternalCallFailed:
        return _NONE, SILENT


async def _device(request: web.Request, words: str | None) -> tuple[UUID | None, str | None]:
    """The device that is meant, and what the page calls it."""
    who = person(request)
    if words is None or not who.holds(DEVICES):
        return as_id(words or ""), words
    found = await request.config_dict[VIEWS].called(words, who.reach(DEVICES))
    if found is None:
        return None, words
    return found["device_id"], found["serial"] or found["name"] or words


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
