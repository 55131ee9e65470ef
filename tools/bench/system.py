"""A server under test, as far as scenarios need to know it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tools.bench.driver import Target
from tools.bench.fleet import Device
from tools.bench.meter import Admin, Ledger

Work = Literal["poll", "tls", "drain", "enroll", "enqueue"]
A_CALL = 100
"""Devices of one enqueue call."""


@dataclass(frozen=True)
class Door:
    """An address that devices use."""

    target: Target
    path: str

    @property
    def host(self) -> str:
        return f"{self.target.host}:{self.target.port}"


@dataclass(frozen=True)
class Calls:
    """Enqueue calls ready to be sent, each for one group of devices."""

    target: Target
    requests: Sequence[bytes]


class System(Protocol):
    """Muster and NanoMDM are the two; both run on servers that belong to nobody else."""

    name: str
    topic: str
    """The push topic that check-ins name."""
    check_in: Door
    connect: Door

    @property
    def admin(self) -> Admin:
        """A superuser's connection: for looking, never part of what is measured."""

    def ledger(self, work: Work) -> Ledger:
        """Which processes do this work."""

    def everything(self) -> Mapping[str, int]:
        """All processes, servers included."""

    async def learn(self, devices: Sequence[Device]) -> None:
        """Make the certificates of devices known that will enroll."""

    async def know(self, devices: Sequence[Device]) -> None:
        """Wait until these devices, which have enrolled, can be given commands."""

    def calls(self, groups: Sequence[Sequence[Device]]) -> Calls:
        """A command for each group: SecurityInfo, without a push to be sent by NanoMDM."""

    def command_uuids(self, calls: Calls, answers: Mapping[int, bytes]) -> list[str]:
        """What the commands of these calls are called on the wire; raises ValueError."""

    async def until_queued(self) -> None:
        """Wait until what was asked for stands in every device's queue."""

    async def left(self) -> int:
        """How many commands wait in the devices' queues."""

    async def forget(self) -> None:
        """Throw away all that waits, so that the next run begins with empty queues."""


def in_groups(devices: Sequence[Device]) -> list[Sequence[Device]]:
    return [devices[at : at + A_CALL] for at in range(0, len(devices), A_CALL)]
