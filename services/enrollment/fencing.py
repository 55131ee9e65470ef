"""Telling command_queue what it may hand out no more (architecture §4)."""

from __future__ import annotations

from uuid import uuid5

from services.enrollment import metrics
from services.enrollment.store.fences import Fence
from shared.runtime.internal import InternalCallFailed, InternalClient

PATH = "/internal/v1/commands/fence"
CHARGE_PATH = "/internal/v1/commands/charge"


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


async def charge(internal: InternalClient, fence: Fence, actor: str) -> str | None:
    """Charge the guard's budgets for ending an enrollment; why it must not be, or None.

    The same fence is charged once. Raises InternalCallFailed: then nothing is done.
    """
    body = {
        "charge_id": str(uuid5(fence.enrollment_id, f"revoke {fence.generation}")),
        "what": "ending an enrollment",
        "actor": actor,
        "command_class": "destructive",
        "device_ids": [str(fence.device_id)],
    }
    answer = await internal.call("command_queue", "POST", CHARGE_PATH, body)
    refused: str | None = answer.get("refused")
    return refused
