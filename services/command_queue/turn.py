"""One request of a device, as the queue sees it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from services.command_queue.apple.answers import Answer


@dataclass(frozen=True, slots=True)
class Turn:
    """What a device said, and that it may be given something now.

    `spoilt` says why its body could not be read: then what it was handed fails, and it is given
    nothing. `channel_id` is None where the unreadable body did not tell the channel.
    """

    device_id: UUID
    enrollment_id: UUID
    channel_id: UUID | None
    answer: Answer | None = None
    spoilt: str | None = None
    traceparent: str | None = None
