"""Entries of the audit as services tell them, at places in Kafka that a test may choose."""

from __future__ import annotations

import itertools
from typing import Any

from shared.bus import apply
from shared.bus.testing import travelled
from shared.events.audit import AuditRecorded
from shared.events.base import Place, uuid7
from shared.runtime.testing import Trial

_offsets = itertools.count(1)


def did(action: str, actor: str = "ada", target: str = "t", **more: Any) -> AuditRecorded:
    values: dict[str, Any] = {"after": {"n": 1}, "permission": "p.q", **more}
    return AuditRecorded(audit_id=uuid7(), actor=actor, action=action, target=target, **values)


def told(
    *events: AuditRecorded, service: str = "inventory", partition: int = 0, first: int | None = None
) -> list[AuditRecorded]:
    """As they come from a partition; offsets rise from `first`, else from the last one used."""
    offsets = _offsets if first is None else itertools.count(first)
    topic = f"muster.audit.{service}.v1"
    return [
        event.lying(Place(topic, partition, next(offsets)))
        for event in travelled(*events, service=service)
    ]


async def hear(service: Trial, arrived: list[AuditRecorded]) -> None:
    await apply(service.context.road, "console", service.parts.handlers, arrived)
