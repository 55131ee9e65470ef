"""Declarative management: asked inside a check-in, answered by configuration (architecture §1)."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import orjson

from services.enrollment import metrics
from services.enrollment.apple.messages import DeclarativeManagement
from services.enrollment.store.pins import Enrollment
from shared.runtime.internal import InternalCallFailed, InternalClient

PATH = "/internal/v1/configuration/declarations"
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Declared:
    """Status and JSON for the device; an empty body for a status report."""

    status: int
    body: bytes


async def ask(
    internal: InternalClient, enrollment: Enrollment, message: DeclarativeManagement
) -> Declared:
    """Pass one endpoint on; raises InternalCallFailed, which tells the device to come again."""
    asked = {
        "device_id": str(enrollment.device_id),
        "endpoint": message.endpoint,
        "data": base64.b64encode(message.data).decode() if message.data else None,
    }
    try:
        answer = await internal.call("configuration", "POST", PATH, asked)
    except InternalCallFailed:
        metrics.DECLARATION_CALLS.labels("failed").inc()
        raise
    metrics.DECLARATION_CALLS.labels("answered").inc()
    if answer.get("status") == _NOT_FOUND:
        return Declared(_NOT_FOUND, b"")
    body = answer.get("body")
    return Declared(200, b"" if body is None else orjson.dumps(body))
