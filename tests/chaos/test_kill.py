"""kill -9 of each service while a thousand commands run: one outcome each, nothing lost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict

import aiohttp
import pytest

from shared.events.registry import SERVICES
from tests.chaos.rig import Herd, Orders, out_of_order, patiently, read_topic
from tools.embedded.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

KILLED = [name for name in SERVICES if name != "console"]
COMMANDS = 10
FINISHED = "muster.command.finished.v1"


@pytest.mark.parametrize("service", KILLED)
async def test_a_killed_service_costs_nothing(
    cluster: Cluster, people: aiohttp.ClientSession, herd: Herd, service: str
) -> None:
    """Acceptance 4: one outcome a target, no event lost, effects once, repeats shown, in order."""
    repeats_before = herd.repeats
    orders = Orders(cluster, people, herd.device_ids)
    async with herd.living():
        await orders.send(COMMANDS)
        await asyncio.sleep(1.5)
        await cluster.kill(service)
        await asyncio.sleep(1.0)
        await cluster.launch(service)
        await cluster.until_ready(service)
        targets = await orders.settled()
    outcomes = Counter(target["state"] for target in targets)
    assert outcomes == {"acknowledged": COMMANDS * len(herd.device_ids)}
    _one_target_each(targets)
    # What Muster says it repeated is what the devices saw.
    told = sum(target["deliveries"] - 1 for target in targets)
    assert told >= herd.repeats - repeats_before
    await patiently(lambda: _all_finished_once(cluster, orders), seconds=60)
    await patiently(lambda: _inventory_caught_up(cluster, orders), seconds=60)
    assert out_of_order(await read_topic(cluster, "muster.inventory.v1")) == []
    assert not {c for c in herd.complaints if "answered 5" in c and "503" not in c}


def _one_target_each(targets: list[dict[str, object]]) -> None:
    pairs = Counter((target["command_id"], target["device_id"]) for target in targets)
    assert set(pairs.values()) == {1}


async def _all_finished_once(cluster: Cluster, orders: Orders) -> bool:
    """Each target has exactly one finished event; repeats of it carry the same id."""
    records = await read_topic(cluster, "muster.command.v1")
    assert out_of_order(records) == []
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    ours = set(orders.commands)
    for record in records:
        if record.type == FINISHED and (body := json.loads(record.body))["command_id"] in ours:
            ids[body["command_id"], body["device_id"]].add(record.event_id)
    assert all(len(found) == 1 for found in ids.values())
    return len(ids) == len(orders.commands) * len(orders.devices)


async def _inventory_caught_up(cluster: Cluster, orders: Orders) -> bool:
    """Every finished event is in inventory's inbox, once: the effect happened, and once."""
    records = await read_topic(cluster, "muster.command.v1")
    ours = set(orders.commands)
    wanted = {
        record.event_id
        for record in records
        if record.type == FINISHED and json.loads(record.body)["command_id"] in ours
    }
    rows = await cluster.query(
        "inventory", "SELECT event_id::text FROM inbox WHERE event_id = ANY($1::uuid[])", wanted
    )
    return {row["event_id"] for row in rows} == wanted
