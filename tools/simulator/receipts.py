"""The record of every command a device was given: how often, and what it answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tools.simulator.wire.messages import Command


@dataclass(slots=True)
class Receipt:
    """One CommandUUID as a device met it."""

    uuid: str
    request_type: str
    user_id: str | None
    times: int = 0
    repeats: int = 0
    """Times it was given again although the device had not answered NotNow."""
    statuses: list[str] = field(default_factory=list)
    """What the device answered, in order; an answer sent twice is there twice."""


class Receipts:
    """All commands of one device, in the order they came first."""

    def __init__(self) -> None:
        self._by_uuid: dict[str, Receipt] = {}
        self.statuses: Counter[str] = Counter()

    def given(self, command: Command, user_id: str | None = None) -> Receipt:
        receipt = self._by_uuid.setdefault(
            command.uuid, Receipt(command.uuid, command.request_type, user_id)
        )
        refused = receipt.statuses[-1:] == ["NotNow"]
        # The device does not remember a refused command: it is owed again (apple.md 1.3, rule 1).
        if receipt.times and not refused:
            receipt.repeats += 1
        receipt.times += 1
        return receipt

    def answered(self, uuid: str, status: str) -> None:
        self.statuses[status] += 1
        if uuid in self._by_uuid:
            self._by_uuid[uuid].statuses.append(status)

    def __getitem__(self, uuid: str) -> Receipt:
        return self._by_uuid[uuid]

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._by_uuid

    def __iter__(self) -> Iterator[Receipt]:
        return iter(self._by_uuid.values())

    def __len__(self) -> int:
        return len(self._by_uuid)

    @property
    def repeated(self) -> list[Receipt]:
        """Every command that was given twice without need."""
        return [receipt for receipt in self if receipt.repeats]
