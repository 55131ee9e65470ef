"""One herd for all fault tests: enrolling it is the slow part."""

from __future__ import annotations

import aiohttp
import pytest

from tests.chaos.rig import Herd
from tools.embedded.cluster import Cluster
from tools.embedded.home import Home

HERD = 100


@pytest.fixture(scope="session")
async def herd(cluster: Cluster, people: aiohttp.ClientSession, muster_home: Home) -> Herd:
    herd = Herd(cluster, people, muster_home.cache / "device-keys")
    await herd.enroll(HERD, "chaos")
    return herd
