"""What is left of the budgets, as a dangerous dialog shows it (security.md, The guard)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from services.console.actions import Action
from services.console.http.pages import ask, ask_surely, page, permitted_page, person
from shared.runtime.internal import InternalCallFailed
from shared.runtime.problems import Problem

READ: Final = "command.read"
_WHOSE: Final = {"actor": "You", "installation": "Everybody together"}
_DANGERS: Final = ("destructive", "disruptive")
_MINUTES: Final = {1440: "24 hours", 60: "hour"}


@dataclass(frozen=True)
class Left:
    """What may still be harmed in a window before it is held."""

    whose: str
    window: str
    left: int
    limit: int


@dataclass(frozen=True)
class Budgets:
    lines: list[Left]
    trouble: str | None = None

    def are_over(self, targets: int) -> bool:
        return any(one.left < targets for one in self.lines)


async def budgets_for(request: web.Request, action: Action) -> Budgets:
    """The budgets that an action is charged to; `trouble`: why they are not known."""
    return await budgets_of(request, action.danger)


async def budgets_of(
    request: web.Request, danger: str, whose: Collection[str] = tuple(_WHOSE)
) -> Budgets:
    """The budgets of a class: one's own, and everybody's."""
    if not person(request).holds(READ):
        return Budgets([], f"To see what is left of the budgets needs the permission {READ}.")
    try:
        found = await ask(request, "command_queue", "GET", "/api/v1/commands/budgets")
    except (Problem, InternalCallFailed):
        return Budgets([], "What is left of the budgets is not known now. They hold all the same.")
    return _of_class(found.get("items", []), danger, whose)


async def show_budgets(request: web.Request) -> web.StreamResponse:
    """GET /settings/budgets: what anybody may harm before others are asked."""
    found = await ask_surely(request, "command_queue", "GET", "/api/v1/commands/budgets")
    budgets = {danger: _of_class(found["items"], danger, _WHOSE) for danger in _DANGERS}
    return page(request, "guard/budgets.html", budgets=budgets)


def _of_class(rows: list[dict[str, Any]], danger: str, whose: Collection[str]) -> Budgets:
    return Budgets(
        [_left(one) for one in rows if one["command_class"] == danger and one["whose"] in whose]
    )


def _left(row: dict[str, Any]) -> Left:
    return Left(
        whose=_WHOSE[row["whose"]],
        window=_window(row["window_minutes"]),
        left=max(row["limit"] - row["spent"], 0),
        limit=row["limit"],
    )


def _window(minutes: int) -> str:
    if minutes in _MINUTES:
        return _MINUTES[minutes]
    if minutes % 1440 == 0:
        return f"{minutes // 1440} days"
    return f"{minutes // 60} hours" if minutes % 60 == 0 else f"{minutes} minutes"


ROUTES = (permitted_page("GET", "/settings/budgets", show_budgets, READ, "Budgets of the guard"),)
