"""One cluster and one herd for all fault tests: starting them is the slow part."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.chaos.rig import Herd
from tools.embedded.cluster import Cluster
from tools.embedded.home import Home

HERD = 100


@pytest.fixture(scope="session")
async def cluster(muster_home: Home) -> AsyncIterator[Cluster]:
    home = Home.at(muster_home.root / "cluster", cache=muster_home.cache)
    async with Cluster(home, settings={"MUSTER_LOG_LEVEL": "WARNING"}) as running:
        yield running


@pytest.fixture(scope="session")
async def people() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture(scope="session")
async def herd(
    cluster: Cluster, people: aiohttp.ClientSession, muster_home: Home
) -> Herd:
    herd = Herd(cluster, people, muster_home.cache / "device-keys")
    await herd.enroll(HERD, "chaos")
    return herd
