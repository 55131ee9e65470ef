"""Devices and people in front of a running Muster: every service a process, real servers behind."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from tests.e2e.rig import Person
from tools.embedded.cluster import Cluster
from tools.embedded.home import Home
from tools.simulator.catalogue import Kind
from tools.simulator.device import SimulatedDevice
from tools.simulator.keys import KeyStore

_numbers = itertools.count()


@dataclass
class Workshop:
    """Makes devices that differ from each other, for tests to do with as they like."""

    person: Person
    session: aiohttp.ClientSession
    keys: KeyStore
    made: list[SimulatedDevice] = field(default_factory=list)

    def device(self, kind: Kind | None = None, **knobs: Any) -> SimulatedDevice:
        made = SimulatedDevice(
            "e2e", next(_numbers), kind=kind, keys=self.keys, session=self.session, **knobs
        )
        made.link.patience = 8  # the first push certificate may be on its way
        self.made.append(made)
        return made

    async def enrolled(self, kind: Kind | None = None, **knobs: Any) -> SimulatedDevice:
        """A device that is enrolled, known to command_queue, and has an empty queue."""
        device = self.device(kind, **knobs)
        await device.enroll(self.session, await self.person.enroll_url())
        await self.person.settle(device)
        return device


@pytest.fixture
async def workshop(
    person: Person, people: aiohttp.ClientSession, muster_home: Home
) -> AsyncIterator[Workshop]:
    keys = KeyStore(muster_home.cache / "device-keys")
    workshop = Workshop(person, people, keys)
    yield workshop
    keys.close()
    # Whatever a test did: no device was ever told to forget its enrollment by accident.
    for device in workshop.made:
        assert not [c for c in device.complaints if "401" in c]


@pytest.fixture
def person(cluster: Cluster, people: aiohttp.ClientSession) -> Person:
    return Person(cluster, people)
