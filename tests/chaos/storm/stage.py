"""The cluster with handles: proxies on every way, clocks that can be moved, processes that can be
stopped and resumed, servers that can be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from shared.bus.kafka import KafkaAccess
from tests.chaos.storm import entry
from tests.chaos.storm.clocks import Dial
from tests.chaos.storm.proxy import Link
from tools.embedded.cluster import Cluster, Part
from tools.embedded.processes import tail

DESTROYED_IN_AN_HOUR = 30
CONSOLE_URL = "http://localhost:8080"
"""What people's keys answer for; nobody is asked there."""


def _window(targets: int) -> str:
    return f'[{{"minutes": 60, "least": {targets}}}]'


SETTINGS = {
    "MUSTER_LOG_LEVEL": "WARNING",
    # Minutes, not days: what nobody answered must be pushed again while the storm lasts.
    "MUSTER_PUSH_NOTIFIER_REPUSH_AFTER": "[3, 6, 10]",
    "MUSTER_PUSH_NOTIFIER_NOT_NOW_WAIT": "3",
    "MUSTER_PUSH_NOTIFIER_SEND_TIMEOUT": "3",
    "MUSTER_COMMAND_QUEUE_UNANSWERED_SECONDS": "3600",
    # Two people lift freezes, and nobody has three days for them to grow old.
    "MUSTER_COMMAND_QUEUE_NEW_POWER_HOURS": "0",
    "MUSTER_COMMAND_QUEUE_CONSOLE_URL": CONSOLE_URL,
    # Of destruction as much as hurts; restarts as many as there are.
    "MUSTER_COMMAND_QUEUE_DESTRUCTIVE_OF_ALL": _window(DESTROYED_IN_AN_HOUR),
    "MUSTER_COMMAND_QUEUE_DESTRUCTIVE_OF_ACTOR": _window(1000),
    "MUSTER_COMMAND_QUEUE_DISRUPTIVE_OF_ALL": _window(100_000),
    "MUSTER_COMMAND_QUEUE_DISRUPTIVE_OF_ACTOR": _window(100_000),
}
SECONDS = {f"{service}-second": service for service in ("command_queue", "enrollment")}
"""Second processes without listeners: they share partitions and shards with the first."""


@dataclass
class Stage(Cluster):
    """`async with Stage(home, plant=…) as stage`."""

    settings: dict[str, str] = field(default_factory=lambda: dict(SETTINGS))
    plant: str = ""
    links: dict[str, Link] = field(default_factory=dict, init=False)
    dials: dict[str, Dial] = field(default_factory=dict, init=False)
    down: set[str] = field(default_factory=set, init=False)
    """Parts that the storm has ended or not yet started; any other that ends is a finding."""
    paused: set[int] = field(default_factory=set, init=False)
    _linking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def _plan(self) -> None:
        super()._plan()
        for name, service in SECONDS.items():
            port = self.home.ports([f"{name}-internal"])[f"{name}-internal"]
            ports = {"devices": 0, "api": 0, "internal": port}
            log = self.home.logs / f"{name}.log"
            part = Part(name, service, ("consumer", "worker"), ports, {}, log)
            self.parts[name] = part
            part.environ = self.environment(part)

    def environment(self, part: Part) -> dict[str, str]:
        found = super().environment(part)
        prefix = f"MUSTER_{part.service.upper()}"
        database = urlsplit(found[f"{prefix}_DATABASE_URL"])
        link = self._link(part.service, "postgres", database.port or 0)
        host = f"{database.username}:{database.password}@127.0.0.1:{link.port}"
        found[f"{prefix}_DATABASE_URL"] = urlunsplit(database._replace(netloc=host))
        broker = int(self.running.kafka_admin.bootstrap.rpartition(":")[2])
        link = self._link(part.service, "kafka", broker)
        found[f"{prefix}_KAFKA_BOOTSTRAP"] = f"127.0.0.1:{link.port}"
        found[entry.BROKER] = f"{broker}:{link.port}"
        if part.service == "enrollment":
            urls = json.loads(found["MUSTER_INTERNAL_URLS"])
            far = urlsplit(urls["command_queue"]).port or 0
            fence = self._link("enrollment", "command_queue", far)
            urls["command_queue"] = f"http://127.0.0.1:{fence.port}"
            found["MUSTER_INTERNAL_URLS"] = json.dumps(urls)
        found[entry.CLOCK] = str(self._dial(part.service).file)
        if self.plant:
            found[entry.PLANT] = self.plant
        return found

    def command(self, part: Part) -> list[str]:
        return ["tests.chaos.storm.entry" if one == "tools.cli" else one
                for one in super().command(part)]  # fmt: skip

    def _link(self, service: str, server: str, target: int) -> Link:
        name = f"{service}→{server}"
        if name not in self.links:
            key = f"link-{service}-{server}"
            self.links[name] = Link(name, self.home.ports([key])[key], target)
        return self.links[name]

    def _dial(self, service: str) -> Dial:
        if service not in self.dials:
            self.dials[service] = Dial(self.home.run / f"{service}.clock")
        return self.dials[service]

    async def launch(self, name: str) -> None:
        async with self._linking:
            for link in self.links.values():
                await link.start()
        if name in SECONDS and name not in self.down:
            self.down.add(name)  # it stays away until a fault brings it
            return
        await super().launch(name)
        self.down.discard(name)

    async def until_ready(self, name: str) -> None:
        if name not in self.down:
            await super().until_ready(name)

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        self.down.add(name)
        await super().kill(name, number)

    async def _stop_parts(self) -> None:
        self.resume_all()
        await super()._stop_parts()
        for link in self.links.values():
            await link.stop()

    @property
    def services(self) -> list[str]:
        """The parts that always run."""
        return [name for name in self.parts if name not in SECONDS]

    def fallen(self) -> dict[str, str]:
        """Parts that ended although nobody ended them, with their last words."""
        return {
            name: tail(part.log)
            for name, part in self.parts.items()
            if name not in self.down and part.process and part.process.returncode is not None
        }

    # Stopping and resuming: no fault is more like a machine that hangs.

    def pids_of(self, victim: str) -> list[int]:
        """The processes of a part, or of a server with its children."""
        if victim in self.parts:
            return [self.parts[victim].pid]
        pid = self.embedded.pids()[victim]
        return [pid, *_children(pid)]

    def pause(self, victim: str) -> list[int]:
        pids = self.pids_of(victim)
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        self.paused.update(pids)
        return pids

    def resume(self, pids: Iterable[int]) -> None:
        for pid in pids:
            _signal(pid, signal.SIGCONT)
            self.paused.discard(pid)

    def resume_all(self) -> None:
        self.resume(list(self.paused))

    def broker(self) -> KafkaAccess:
        """The broker as its administrator, past all proxies."""
        login = self.running.kafka_admin
        return KafkaAccess(
            bootstrap=login.bootstrap,
            username=login.username,
            password=login.password,
            heartbeat_ms=500,
        )

    async def revive(self) -> list[str]:
        """Start again what says by /livez that it must be, as Kubernetes does."""
        ended = []
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
            for name in self.services:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"{self.parts[name].internal_url}/livez") as answer:
                        if answer.status != 200:
                            ended.append(name)
        for name in ended:
            await self.restart(name)
        return ended

    async def heal(self) -> None:
        """Everything up, connected and in time; raises when a service does not become ready."""
        self.resume_all()
        for link in self.links.values():
            link.heal()
        for dial in self.dials.values():
            dial.turn(0)
        self.apns.rules.clear()
        await asyncio.gather(*(self.until_ready(name) for name in self.services))


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
