"""What services tell each other: models and their registry, nothing else."""

from __future__ import annotations

from shared.events.base import Event, Meta, uuid7, uuid7_time

__all__ = ["Event", "Meta", "uuid7", "uuid7_time"]
