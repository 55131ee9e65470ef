"""A full disk under PostgreSQL and under Kafka: said plainly, survived, nothing acknowledged lost.

The servers' data lies on small file systems of their own. Where the machine allows no mounting
(containers without rights) that cannot be tried: a limit on file sizes is another error.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from prometheus_client import REGISTRY

from tests.chaos.ledger import Ledger
from tests.chaos.rig import Herd, Orders, patiently, read_topic
from tools.embedded.cluster import Cluster
from tools.embedded.home import Home
from tools.embedded.keeping import Disk

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(420)]

DISK_MB = 320
HERD = 20


@contextlib.contextmanager
def small_disk(at: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own in memory."""
    at.mkdir(parents=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "muster-test", str(at)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        at.rmdir()
        pytest.skip(f"this machine lets us mount nothing: {made.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@dataclass
class Scene:
    """All of Muster, each server's data on a small disk, and what its keeper said."""

    cluster: Cluster
    herd: Herd
    people: aiohttp.ClientSession
    ledger: Ledger
    disks: dict[str, Path]
    said: list[str] = field(default_factory=list)

    def heard(self, words: str) -> bool:
        return any(words in line for line in self.said)

    def fill(self, server: str) -> Path:
        """Take what is left of a disk, to the last block."""
        filler = self.disks[server] / "filler"
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 65536)
        assert Disk.of(self.disks[server]).full
        return filler


@pytest.fixture(scope="module")
async def scene(muster_home: Home) -> AsyncIterator[Scene]:
    home = Home.at(muster_home.root / "small-disks", cache=muster_home.cache)
    with contextlib.ExitStack() as disks:
        mounted = {
            name: disks.enter_context(small_disk(home.root / "disks" / name, DISK_MB))
            for name in ("postgres", "kafka")
        }
        (home.state / "postgres").symlink_to(mounted["postgres"])
        # The broker formats this folder and gives it its final name.
        (mounted["kafka"] / "data").mkdir()
        (home.state / "kafka.new").symlink_to(mounted["kafka"] / "data")
        async with (
            Cluster(home, settings={"MUSTER_LOG_LEVEL": "WARNING"}) as cluster,
            cluster.session() as people,
        ):
            herd = Herd(cluster, people, muster_home.cache / "device-keys")
            await herd.enroll(HERD, "small disks")
            made = Scene(cluster, herd, people, Ledger.of(herd), mounted)
            async with cluster.embedded.kept(made.said.append):
                yield made
        shutil.rmtree(home.state, ignore_errors=True)


async def test_a_full_disk_under_kafka(scene: Scene) -> None:
    """The broker halts. Devices are served, events wait; all arrive once there is room."""
    orders = Orders(scene.cluster, scene.people, scene.herd.device_ids)
    async with scene.herd.living():
        filler = scene.fill("kafka")
        await patiently(lambda: _true(scene.heard("The disk under Kafka is nearly full")))
        await orders.send(3)
        await patiently(lambda: _true(scene.heard("Kafka waits: its disk is full")))
        assert scene.heard("devices are served, events wait in the outbox")
        assert _gauge("muster_embedded_server_up", "Kafka") == 0
        assert _gauge("muster_embedded_disk_low", "Kafka") == 1
        targets = await orders.settled()  # while the broker is away
        assert {target["state"] for target in targets} == {"acknowledged"}
        assert _gauge("muster_embedded_server_up", "Kafka") == 0
        filler.unlink()
        await patiently(lambda: _true(scene.heard("Kafka is back")))
        await patiently(lambda: _outboxes_empty(scene.cluster), seconds=120)
    assert await _finished(scene.cluster, orders) == 3 * HERD
    assert scene.ledger.lost == []
    # Nothing of it was felt by a device.
    assert set(scene.ledger.statuses) == {200}
    assert not scene.ledger.broken


async def test_a_full_disk_under_postgres(scene: Scene) -> None:
    """The database panics. Devices get 503; what they were answered before is all there."""
    orders = Orders(scene.cluster, scene.people, scene.herd.device_ids)
    async with scene.herd.living():
        await orders.send(2)
        filler = scene.fill("postgres")
        await _write_until_it_dies(scene.cluster)
        await patiently(lambda: _true(scene.heard("PostgreSQL waits: its disk is full")))
        assert scene.heard("devices and people are asked to come again")
        assert _gauge("muster_embedded_server_up", "PostgreSQL") == 0
        told_before = scene.ledger.acknowledged
        await patiently(lambda: _true(scene.ledger.refused >= HERD))  # and comes again
        filler.unlink()
        await patiently(lambda: _true(scene.heard("PostgreSQL is back")))
        await orders.send(2)
        targets = await orders.settled()
    assert {target["state"] for target in targets} == {"acknowledged"}
    assert len(targets) == 4 * HERD
    assert scene.ledger.acknowledged >= told_before
    assert scene.ledger.lost == []
    # Refused again and again, but never with anything else than "come again".
    assert set(scene.ledger.statuses) <= {200, 503}
    for name in scene.cluster.parts:
        await scene.cluster.until_ready(name)


async def _write_until_it_dies(cluster: Cluster) -> None:
    """Use up the log segments that PostgreSQL had in store: the next one finds no room."""
    try:
        admin = await asyncpg.connect(cluster.running.postgres_admin)
        for _ in range(1000):
            await admin.execute("SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return
    raise AssertionError("a gigabyte of log went to a disk that is full")


async def _true(value: bool) -> bool:
    return value


def _gauge(name: str, server: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"server": server})


async def _finished(cluster: Cluster, orders: Orders) -> int:
    """How many targets of these orders the topic tells of; each by one event, repeats apart."""
    events, targets = set(), set()
    for record in await read_topic(cluster, "muster.command.v1"):
        if record.type == "muster.command.finished.v1":
            body = json.loads(record.body)
            if body["command_id"] in orders.commands:
                events.add(record.event_id)
                targets.add((body["command_id"], body["device_id"]))
    assert len(events) == len(targets)
    return len(targets)


async def _outboxes_empty(cluster: Cluster) -> bool:
    rows = await cluster.query("command_queue", "SELECT FROM outbox LIMIT 1")
    return not rows
