"""The broker away, the database restarted, a projection emptied."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from shared.events.registry import SERVICES
from tests.chaos.rig import Herd, Orders, patiently, read_topic
from tools.embedded.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

OUTAGE_SECONDS = 60


async def test_kafka_stopped_for_a_minute(
    cluster: Cluster, people: aiohttp.ClientSession, herd: Herd
) -> None:
    """Acceptance 5: devices are served all the while, and all events arrive afterwards."""
    before = await _events(cluster)
    orders = Orders(cluster, people, herd.device_ids)
    async with herd.living(pause=2.0):
        await cluster.stop_kafka()
        began = asyncio.get_running_loop().time()
        await orders.send(3)
        # Every target is answered while the broker is still away.
        targets = await orders.settled()
        assert {target["state"] for target in targets} == {"acknowledged"}
        assert await _events_waiting(cluster) > 0
        await asyncio.sleep(max(0.0, OUTAGE_SECONDS - (asyncio.get_running_loop().time() - began)))
        await cluster.start_kafka()
        await patiently(lambda: _outboxes_empty(cluster), seconds=120)
    wanted = 3 * len(herd.device_ids)
    assert await _events(cluster) - before >= wanted
    for name in cluster.parts:
        await cluster.until_ready(name)


async def _events(cluster: Cluster) -> int:
    records = await read_topic(cluster, "muster.command.v1")
    return len({r.event_id for r in records if r.type == "muster.command.finished.v1"})


async def _events_waiting(cluster: Cluster) -> int:
    rows = await cluster.query("command_queue", "SELECT count(*) AS n FROM outbox")
    return int(rows[0]["n"])


async def _outboxes_empty(cluster: Cluster) -> bool:
    for service in SERVICES:
        rows = await cluster.query(service, "SELECT count(*) AS n FROM outbox")
        if rows[0]["n"]:
            return False
    return True


async def test_postgres_restarted(
    cluster: Cluster, people: aiohttp.ClientSession, herd: Herd
) -> None:
    """Acceptance 5: every service recovers by itself."""
    orders = Orders(cluster, people, herd.device_ids)
    async with herd.living():
        await orders.send(2)
        await cluster.restart_postgres()
        await orders.send(2)
        targets = await orders.settled()
    assert {target["state"] for target in targets} == {"acknowledged"}
    for name, part in cluster.parts.items():
        await cluster.until_ready(name)
        assert part.process is not None
        assert part.process.returncode is None


@pytest.mark.parametrize("service", ["command_queue", "push_notifier", "inventory", "compliance"])
async def test_an_emptied_projection_rebuilds_from_device_state(
    cluster: Cluster, people: aiohttp.ClientSession, herd: Herd, service: str
) -> None:
    """Acceptance 5: a service's device projection emptied rebuilds from `device-state`."""
    del people
    before = await cluster.query(service, "SELECT device_id FROM device ORDER BY device_id")
    assert len(before) >= len(herd.device_ids)
    await cluster.kill(service)
    await cluster.query(service, "TRUNCATE device CASCADE")
    await cluster.launch(service)
    await cluster.until_ready(service)

    async def rebuilt() -> bool:
        rows = await cluster.query(service, "SELECT device_id FROM device ORDER BY device_id")
        return rows == before

    await patiently(rebuilt, seconds=60)
