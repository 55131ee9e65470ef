"""A server to speak to, and devices that speak."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.simulator.responder import Responder, make_responder
from tools.simulator.catalogue import Kind
from tools.simulator.device import SimulatedDevice
from tools.simulator.keys import KeyStore
from tools.simulator.session import open_session

MakeDevice = Callable[..., SimulatedDevice]


@pytest.fixture(scope="session")
def simulator_keys(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    """Keys are made once for all tests: equal index and life are the same key."""
    return KeyStore(tmp_path_factory.mktemp("keys"))


@pytest.fixture
async def responder(tmp_path: Path) -> AsyncIterator[Responder]:
    made = make_responder(tmp_path)
    runner = await made.start()
    yield made
    for stream in made.streams:
        stream.put_nowait(b"")
    await runner.cleanup()


@pytest.fixture
async def device_session(responder: Responder) -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session(responder.trust) as session:
        yield session


@pytest.fixture
def make_device(simulator_keys: KeyStore, device_session: aiohttp.ClientSession) -> MakeDevice:
    def make(index: int = 0, kind: Kind | None = "iphone", seed: str = "tests") -> SimulatedDevice:
        return SimulatedDevice(seed, index, kind=kind, keys=simulator_keys, session=device_session)

    return make


@pytest.fixture
async def enrolled(
    make_device: MakeDevice, responder: Responder, device_session: aiohttp.ClientSession
) -> SimulatedDevice:
    """A supervised iPhone that is enrolled."""
    device = make_device(8)
    assert device.traits.supervised
    await device.enroll(device_session, responder.enroll_url)
    return device
