"""A cluster under fault, a fleet that never gives up, and a model of what must hold after it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
from aiokafka import AIOKafkaConsumer, TopicPartition

from shared.bus.kafka import KafkaAccess
from tools.embedded.cluster import Cluster
from tools.simulator.conversation import Conversation
from tools.simulator.device import SimulatedDevice
from tools.simulator.keys import KeyStore

FINAL = {"acknowledged", "verified", "failed", "expired", "cancelled", "unconfirmed"}
SECTIONS = ("device_information", "security", "applications", "profiles", "certificates")


@dataclass
class Herd:
    """Devices that poll until told to stop; what they sent and lost they send again."""

    cluster: Cluster
    session: aiohttp.ClientSession
    keys: Path
    members: list[Conversation] = field(default_factory=list)
    device_ids: list[str] = field(default_factory=list)
    _life: list[asyncio.Task[None]] = field(default_factory=list)

    async def enroll(self, count: int, seed: str) -> None:
        body = {"name": seed, "max_uses": count, "serials": "any"}
        path = "/api/v1/enrollment/credentials"
        made = await self.cluster.call(self.session, "enrollment", "POST", path, json=body)
        store = KeyStore(self.keys, shared=16)
        turns = asyncio.Semaphore(8)

        async def one(index: int) -> Conversation:
            device = SimulatedDevice(seed, index, keys=store)
            device.link.patience = 10
            async with turns:
                await device.enroll(self.session, made["enroll_url"])
            return Conversation(device)

        self.members += await asyncio.gather(*(one(index) for index in range(count)))
        store.close()
        serials = {member.device.traits.serial for member in self.members}
        async with asyncio.timeout(120):
            while len(self.device_ids) < len(self.members):
                devices = await listed(
                    self.cluster, self.session, "enrollment", "/api/v1/enrollment/devices"
                )
                self.device_ids = [
                    d["device_id"]
                    for d in devices
                    if d["serial"] in serials and d["state"] == "enrolled"
                ]
                await asyncio.sleep(0.2)

    @contextlib.asynccontextmanager
    async def living(self, pause: float = 0.5) -> AsyncIterator[None]:
        """Every device connects, works its queue off, pauses, and connects again."""
        tasks = [asyncio.create_task(_live(member, pause)) for member in self.members]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def repeats(self) -> int:
        """How often any device was given a command that it had already answered or held."""
        return sum(receipt.repeats for m in self.members for receipt in m.device.receipts)

    @property
    def complaints(self) -> dict[str, int]:
        found: dict[str, int] = defaultdict(int)
        for member in self.members:
            for complaint, times in member.device.complaints.items():
                found[complaint] += times
        return dict(found)


async def _live(member: Conversation, pause: float) -> None:
    while True:
        await member.run()
        await asyncio.sleep(pause)


async def listed(
    cluster: Cluster, session: aiohttp.ClientSession, service: str, path: str, **query: str
) -> list[dict[str, Any]]:
    """Every page of a list."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        params = {"limit": "500", **query} | ({"cursor": cursor} if cursor else {})
        page = await cluster.call(session, service, "GET", path, params=params)
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            return found


async def patiently(wanted: Any, *, seconds: float = 90.0) -> Any:
    """The first answer of `wanted()` that is true; outages on the way are part of the test."""
    deadline = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < deadline:
        try:
            if last := await wanted():
                return last
        except (RuntimeError, aiohttp.ClientError, TimeoutError) as error:
            last = error
        await asyncio.sleep(0.3)
    raise AssertionError(f"it did not come true in {seconds} s; last: {last!r}")


@dataclass
class Orders:
    """Commands sent to a herd, and what became of each target."""

    cluster: Cluster
    session: aiohttp.ClientSession
    devices: Sequence[str]
    commands: list[str] = field(default_factory=list)

    async def send(self, count: int) -> None:
        """`count` inventory commands to every device; asking again after an outage is safe."""
        for number in range(count):
            body = {
                "kind": "inventory.refresh",
                "params": {"section": SECTIONS[number % len(SECTIONS)]},
                "device_ids": list(self.devices),
                "idempotency_key": str(uuid4()),
                "reason": "chaos",
            }

            async def ask(body: dict[str, Any] = body) -> Any:
                return await self.cluster.call(
                    self.session, "command_queue", "POST", "/api/v1/commands", json=body
                )

            self.commands.append((await patiently(ask))["command_id"])

    async def targets(self) -> list[dict[str, Any]]:
        found = []
        for command in self.commands:
            path = f"/api/v1/commands/{command}/targets"
            rows = await listed(self.cluster, self.session, "command_queue", path)
            found += [{**row, "command_id": command} for row in rows]
        return found

    async def settled(self) -> list[dict[str, Any]]:
        """All targets, once each has an outcome."""

        async def done() -> list[dict[str, Any]]:
            targets = await self.targets()
            complete = len(targets) == len(self.commands) * len(self.devices)
            return targets if complete and all(t["state"] in FINAL for t in targets) else []

        return list(await patiently(done, seconds=150))


@dataclass(frozen=True)
class Travelled:
    """One record of a topic."""

    type: str
    event_id: str
    key: str
    sequence: int
    body: bytes
    traceparent: str


async def read_topic(cluster: Cluster, topic: str) -> list[Travelled]:
    """Everything on a topic from its start to its present end, in partition order."""
    login = cluster.running.kafka_admin
    access = KafkaAccess(
        bootstrap=login.bootstrap, username=login.username, password=login.password
    )
    consumer: AIOKafkaConsumer = access.consumer(None)
    await consumer.start()
    try:
        numbers = await patiently(lambda: _partitions(consumer, topic), seconds=60)
        partitions = [TopicPartition(topic, number) for number in numbers]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: list[Travelled] = []
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                batch = await consumer.getmany(partition, timeout_ms=1000)
                found += [_record(record) for records in batch.values() for record in records]
        return found
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> list[int]:
    await consumer._client.force_metadata_update()
    return sorted(consumer._client.cluster.partitions_for_topic(topic) or ())


def _record(record: Any) -> Travelled:
    headers = {name: value.decode() for name, value in record.headers}
    return Travelled(
        headers["ce_type"],
        headers["ce_id"],
        (record.key or b"").decode(),
        int(headers["ce_sequence"]),
        record.value or b"",
        headers.get("traceparent", ""),
    )


def out_of_order(records: Sequence[Travelled]) -> list[str]:
    """Keys whose events, at their first appearance, did not rise in sequence."""
    seen: set[str] = set()
    last: dict[str, int] = {}
    wrong = []
    for record in records:
        if record.event_id in seen:
            continue  # at least once: a repeat after a crash keeps its id
        seen.add(record.event_id)
        if record.sequence <= last.get(record.key, -1):
            wrong.append(record.key)
        last[record.key] = record.sequence
    return wrong
