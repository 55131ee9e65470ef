"""Replacing what wakes the fleet is charged to the guard's budgets like a command that destroys."""

from __future__ import annotations

from shared.events.base import uuid7
from shared.runtime.http import Caller
from shared.runtime.internal import InternalCallFailed, InternalClient
from shared.runtime.problems import Problem

PATH = "/internal/v1/commands/charge"


async def charge(internal: InternalClient, what: str, who: Caller) -> None:
    """Raises Problem when the guard has no room for it, or does not answer."""
    body = {
        "charge_id": str(uuid7()),
        "what": what,
        "actor": who.actor,
        "command_class": "destructive",
        "device_ids": [],
    }
    try:
        answer = await internal.call("command_queue", "POST", PATH, body)
    except InternalCallFailed:
        detail = "The guard does not answer: nothing was done. Try again soon."
        raise Problem(503, "guard_silent", detail) from None
    if (refused := answer.get("refused")) is not None:
        detail = f"The guard has no room for it, and nothing was done: {refused}."
        raise Problem(409, "guard_refused", detail)
