"""`muster.audit.<service>.v1`: every change by a person, token or rule. Each service its own."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from shared.events.base import Event, Short


class AuditRecorded(Event):
    """Who did what to what; values are masked where they are secret."""

    TYPE: ClassVar[str] = "muster.audit.recorded.v1"
    TOPIC: ClassVar[str] = "muster.audit.{service}.v1"
    ADDS: ClassVar[bool] = True
    audit_id: UUID
    actor: Short
    permission: Short
    action: Short
    target: Short
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    reason: Short | None = None
    source: Short | None = None
    """The peer address, or `job:NAME`."""

    @property
    def subject(self) -> str:
        return self.target

    @property
    def device(self) -> None:
        return None
