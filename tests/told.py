"""What a service under test told the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from shared.bus import outbox
from shared.db.pool import transaction
from shared.events import Event
from shared.runtime.testing import Trial

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Told:
    """Events, in order, by type."""

    events: Sequence[Event]

    @classmethod
    async def by(cls, service: Trial) -> Self:
        """Take what waits in its outbox."""
        async with transaction(service.context.pool) as tx:
            events = await outbox.read(tx, service.running.name)
            await tx.execute("DELETE FROM outbox")
        return cls(events)

    def of(self, model: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, model)]

    def one(self, model: type[E]) -> E:
        [event] = self.of(model)
        return event
