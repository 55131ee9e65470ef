"""Telling command_queue what it may hand out no more (architecture §4)."""

from __future__ import annotations

from uuid import uuid5

from services.enrollment import metrics
from services.enrollment.store.fences import Fence
from shared.runtime.charging import Charge
from shared.runtime.internal import InternalCallFailed, InternalClient

PATH = "/internal/v1/commands/fence"


async def tell(internal: InternalClient, fence: Fence) -> None:
    """Return once no answer can begin that hands out what is fenced; raises InternalCallFailed."""
    body = {
        "enrollment_id": str(fence.enrollment_id),
        "device_id": str(fence.device_id),
        "generation": fence.generation,
        "state": fence.state,
    }
    try:
        await internal.call("command_queue", "POST", PATH, body)
    except InternalCallFailed:
        metrics.FENCE_CALLS.labels("failed").inc()
        raise
    metrics.FENCE_CALLS.labels("confirmed").inc()


def charge_of(fence: Fence, actor: str) -> Charge:
    """What the guard's budgets are charged for ending an enrollment; the same fence once."""
    charge_id = uuid5(fence.enrollment_id, f"revoke {fence.generation}")
    return Charge(charge_id, "ending an enrollment", actor, [fence.device_id])
