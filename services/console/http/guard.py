"""How the guard stands, as pages show it: what waits, what is frozen, who gets power, alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from aiohttp import web

from services.console.http.keys import VIEWS
from services.console.http.pages import ask, person
from shared.runtime.internal import InternalCallFailed
from shared.runtime.problems import Problem

READ: Final = "command.read"
_DAY: Final = timedelta(days=1)
_MOST: Final = 5
_TOLD: Final = ("held", "freezes", "powers", "lifters", "lifters_needed")
Values = dict[str, Any]


@dataclass(frozen=True)
class Guard:
    """`trouble`: why it is not known. `whole`: of all devices, else of somebody's groups."""

    held: int = 0
    freezes: Sequence[Values] = ()
    powers: Sequence[Values] = ()
    lifters: int = 0
    lifters_needed: int = 0
    alarms: Sequence[Values] = field(default_factory=list)
    whole: bool = False
    trouble: str | None = None

    @property
    def lonely(self) -> bool:
        """Whether a freeze that is begun now could not be lifted."""
        return self.whole and not self.trouble and self.lifters < self.lifters_needed


async def guard_for(request: web.Request) -> Guard | None:
    """As this person may see it; None: not at all."""
    who = person(request)
    if not who.holds(READ):
        return None
    whole = who.reach(READ) is None
    alarms = await request.config_dict[VIEWS].alarms(_DAY, _MOST) if whole else []
    try:
        found = await ask(request, "command_queue", "GET", "/api/v1/commands/guard")
    except (Problem, InternalCallFailed):
        trouble = "The service that guards commands does not answer now. It guards all the same."
        return Guard(alarms=alarms, whole=whole, trouble=trouble)
    known = {name: found[name] for name in _TOLD if name in found}
    guard = Guard(**known, alarms=alarms, whole=whole)
    names = await request.config_dict[VIEWS].actors([one["actor"] for one in guard.freezes])
    for one in guard.freezes:
        one["who"] = names.get(one["actor"], one["actor"])
    return guard
