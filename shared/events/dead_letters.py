"""`muster.dead-letter.<service>.v1`: events that a service could not handle and gave up."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from shared.events.base import Event, Short, Text


class DeadLettered(Event):
    """One record was given up; `muster dead-letters` shows and replays it."""

    TYPE: ClassVar[str] = "muster.dead_letter.recorded.v1"
    TOPIC: ClassVar[str] = "muster.dead-letter.{service}.v1"
    dead_letter_id: UUID
    source_topic: Short
    source_partition: int
    source_offset: int
    source_type: Short | None = None
    source_event_id: UUID | None = None
    source_headers: dict[str, str]
    reason: Short
    error: Text
    trace: str
    """Where it happened: file, line and function of each frame, without values."""

    @property
    def subject(self) -> str:
        return str(self.dead_letter_id)

    @property
    def device(self) -> None:
        return None
