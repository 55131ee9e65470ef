"""Every process of every service is replaced under load, and devices feel nothing of it.

Two processes a service at one address, a fleet that lives, devices that enroll, people who ask.
Allowed is a 503 (the device comes again), and of these only a few; nothing else.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.bus.outbox import SHARDS
from shared.events.registry import SERVICES
from tests.chaos.ledger import Ledger
from tests.chaos.rig import Herd, Orders, out_of_order, patiently, read_topic
from tools.embedded.cluster import Cluster, Part
from tools.embedded.home import Home

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(600)]

PROCESSES = 2
HERD = 30
MOST_REFUSED = 0.01
FINISHED = "muster.command.finished.v1"


@dataclass
class People:
    """What API clients were answered, all the while."""

    statuses: Counter[int] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)


@dataclass
class Scene:
    cluster: Cluster
    herd: Herd
    ledger: Ledger
    session: aiohttp.ClientSession


@pytest.fixture(scope="module")
async def scene(muster_home: Home) -> AsyncIterator[Scene]:
    home = Home.at(muster_home.root / "rolling", cache=muster_home.cache)
    settings = {"MUSTER_LOG_LEVEL": "INFO", "MUSTER_POOL_SIZE": "4", "MUSTER_LINGER_SECONDS": "2"}
    async with (
        Cluster(home, settings=settings, processes=PROCESSES) as cluster,
        cluster.session() as session,
    ):
        herd = Herd(cluster, session, muster_home.cache / "device-keys")
        await herd.enroll(HERD, "rolling")
        yield Scene(cluster, herd, Ledger.of(herd), session)


def _children(part: Part) -> list[int]:
    """Process ids, oldest first (proc(5))."""
    path = Path(f"/proc/{part.pid}/task/{part.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


async def test_two_processes_share_what_one_would_do(scene: Scene) -> None:
    """Shards of the outbox, single jobs, partitions of the topics: each has one holder."""
    for service in SERVICES:
        part = scene.cluster.parts[service]

        async def shared(part: Part = part) -> bool:
            return [await _sum(part, "muster_outbox_relay_shards", n) for n in range(2)] == [
                SHARDS / PROCESSES,
                SHARDS / PROCESSES,
            ]

        await patiently(shared)
        locks = await scene.cluster.query(
            service,
            "SELECT objid, count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND granted "
            "AND mode = 'ExclusiveLock' AND pid IN (SELECT pid FROM pg_stat_activity "
            "WHERE application_name = $1) GROUP BY classid, objid",
            f"{service}:jobs",
        )
        assert all(row["n"] == 1 for row in locks)


async def _sum(part: Part, metric: str, number: int) -> float:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{part.own_urls[number]}/metrics") as answer,
    ):
        text = await answer.text()
    lines = re.findall(rf"^{metric}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for value in lines)


async def test_every_process_is_replaced_and_nothing_is_lost(scene: Scene) -> None:
    cluster, people = scene.cluster, People()
    orders = Orders(cluster, scene.session, scene.herd.device_ids)
    before = {name: _children(part) for name, part in cluster.parts.items()}
    async with scene.herd.living(), _asking(scene, people), _enrolling(scene) as newcomers:
        for service in SERVICES:
            await orders.send(1)
            for _ in range(PROCESSES):
                await _replace_oldest(cluster, cluster.parts[service])
            await orders.send(1)
        targets = await orders.settled()
    for name, part in cluster.parts.items():
        assert not set(before[name]) & set(_children(part))
    _check_devices(scene.ledger)
    assert len(newcomers) > len(SERVICES)
    assert set(people.statuses) <= {200, 503}
    assert people.statuses[503] <= MOST_REFUSED * people.statuses.total()
    assert not people.broken
    assert Counter(t["state"] for t in targets) == {
        "acknowledged": 2 * len(SERVICES) * len(scene.herd.device_ids)
    }
    await patiently(lambda: _all_told(cluster, orders, len(targets)))
    await patiently(lambda: _all_heard(cluster, orders, len(targets)))


def _check_devices(ledger: Ledger) -> None:
    assert ledger.lost == []
    assert not ledger.broken
    assert set(ledger.statuses) <= {200, 503}
    assert ledger.refused <= MOST_REFUSED * ledger.statuses.total()


async def _replace_oldest(cluster: Cluster, part: Part) -> None:
    """SIGTERM to the process that lives longest; wait until its successor is ready."""
    oldest = _children(part)[0]
    os.kill(oldest, signal.SIGTERM)
    async with asyncio.timeout(90):
        while (  # noqa: ASYNC110 - other processes tell nobody
            oldest in _children(part) or len(_children(part)) < PROCESSES
        ):
            await asyncio.sleep(0.05)
    await cluster.until_ready(part.name)


@asynccontextmanager
async def _asking(scene: Scene, people: People) -> AsyncIterator[None]:
    """People who look at lists of every service, on kept-alive connections, again and again."""
    paths = {
        "enrollment": "/api/v1/enrollment/devices?limit=10",
        "command_queue": "/api/v1/commands?limit=10",
        "inventory": "/api/v1/inventory/devices?limit=10",
        "compliance": "/api/v1/compliance/policies?limit=10",
    }
    tokens = {service: scene.cluster.token(service) for service in paths}

    async def ask(service: str) -> None:
        url, headers = scene.cluster.api_url + paths[service], {}
        headers["Authorization"] = f"Bearer {tokens[service]}"
        while True:
            try:
                async with scene.session.get(url, headers=headers) as answer:
                    people.statuses[answer.status] += 1
            except aiohttp.ClientError as error:
                people.broken[type(error).__name__] += 1
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(ask(service)) for service in paths]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _enrolling(scene: Scene) -> AsyncIterator[list[Any]]:
    """One device after the other enrolls, without a single repeat of its own."""
    newcomers: list[Any] = []

    async def enroll() -> None:
        while True:
            herd = Herd(scene.cluster, scene.session, scene.herd.keys)
            await herd.enroll(1, f"newcomer-{len(newcomers)}")
            newcomers.append(herd.members[0])
            await asyncio.sleep(0.5)

    task = asyncio.create_task(enroll())
    try:
        yield newcomers
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _all_told(cluster: Cluster, orders: Orders, wanted: int) -> bool:
    """Every target by one event, and the events of each device in order."""
    records = await read_topic(cluster, "muster.command.v1")
    assert out_of_order(records) == []
    ids = {r.event_id for r in records if r.type == FINISHED and _is_of(r.body, orders)}
    return len(ids) == wanted


async def _all_heard(cluster: Cluster, orders: Orders, wanted: int) -> bool:
    """inventory has taken every one of them, whichever of its processes held the partition."""
    records = await read_topic(cluster, "muster.command.v1")
    ids = {r.event_id for r in records if r.type == FINISHED and _is_of(r.body, orders)}
    rows = await cluster.query(
        "inventory", "SELECT event_id FROM inbox WHERE event_id = ANY($1::uuid[])", list(ids)
    )
    return len(rows) == wanted


def _is_of(body: bytes, orders: Orders) -> bool:
    return any(command.encode() in body for command in orders.commands)
