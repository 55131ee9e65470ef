"""What devices were told, kept by the devices: an answer that was acknowledged may never be asked
for again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.rig import Herd
from tools.simulator.conversation import Conversation
from tools.simulator.wire.messages import Reply


@dataclass
class Ledger:
    """Every answer that Muster took with a 200."""

    statuses: Counter[int] = field(default_factory=Counter)
    """HTTP statuses of all connects."""
    broken: Counter[str] = field(default_factory=Counter)
    """Requests that got no HTTP answer at all, by what happened."""
    lost: list[tuple[str, str]] = field(default_factory=list)
    """(device, command) that were handed out after their answer had been taken: it was lost."""
    _taken: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def of(cls, herd: Herd) -> Ledger:
        """Watch a herd from now on."""
        ledger = cls()
        for member in herd.members:
            ledger._watch(member)
        return ledger

    @property
    def acknowledged(self) -> int:
        return len(self._taken)

    @property
    def refused(self) -> int:
        return self.statuses[503]

    def _watch(self, member: Conversation) -> None:
        device, connect = member.device, member.device.connect

        async def watched(status: str, command: Any = None, **more: Any) -> Reply:
            try:
                reply = await connect(status, command, **more)
            except Exception as error:
                self.broken[type(error).__name__] += 1
                raise
            self.statuses[reply.status] += 1
            udid = device.traits.udid
            if reply.delivered and status in {"Acknowledged", "Error"} and command is not None:
                self._taken.add((udid, command.uuid))
            if reply.command is not None and (udid, reply.command.uuid) in self._taken:
                self.lost.append((udid, reply.command.uuid))
            return reply

        device.connect = watched  # type: ignore[method-assign,assignment]
