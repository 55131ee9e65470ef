"""The guard's budgets for what harms devices and is no command: command_queue keeps them, and
charges it like a command that destroys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.runtime.internal import InternalCallFailed, InternalClient
from shared.runtime.problems import Problem

PATH: Final = "/internal/v1/commands/charge"


@dataclass(frozen=True)
class Charge:
    """`what` is about to be done, and by whom; the same id is charged once."""

    charge_id: UUID
    what: str
    actor: str
    device_ids: Sequence[UUID] = ()
    """Empty: it is about no device by name."""


async def charge(internal: InternalClient, act: Charge) -> None:
    """Call it before anything is done.

    Raises Problem when the guard has no room for it, and InternalCallFailed when it is silent.
    """
    body = {
        "charge_id": str(act.charge_id),
        "what": act.what,
        "actor": act.actor,
        "command_class": "destructive",
        "device_ids": [str(device_id) for device_id in act.device_ids],
    }
    answer = await internal.call("command_queue", "POST", PATH, body)
    if (refused := answer.get("refused")) is not None:
        detail = f"The guard has no room for it, and nothing was done: {refused}."
        raise Problem(409, "guard_refused", detail)


async def charge_surely(internal: InternalClient, act: Charge) -> None:
    """The same where a person waits: silence is a Problem, too."""
    try:
        await charge(internal, act)
    except InternalCallFailed:
        detail = "The guard does not answer: nothing was done. Try again soon."
        raise Problem(503, "guard_silent", detail) from None
