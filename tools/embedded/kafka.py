"""One Apache Kafka broker for one machine: formatted, started, found again, stopped."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path

from tools.embedded import jars, processes
from tools.embedded.errors import EmbeddedError
from tools.embedded.home import Home, write_private
from tools.embedded.java import find_java
from tools.embedded.kafka_config import ADMIN, BROKER, LOGGING, Ports, properties
from tools.embedded.processes import POLL_SECONDS, Process, command_line, is_alive, rotate, tail
from tools.embedded.progress import Silent, Step

START_SECONDS = 180
# C1 and the serial collector start in two thirds of the time and half the CPU of the defaults, at
# the same throughput for one node; no perf data, because a killed JVM would leave it in /tmp.
TUNED = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")

# No device waits for the broker: events wait in the outbox. It gives way as those do that people
# wait for, and who wait for it (decision 60).
NICE = 10


class Kafka:
    """A broker whose data lies in `home.state/kafka`.

    By default clients sign in (SCRAM-SHA-512) and have the rights that they were given and no
    others; `for_tests` turns both off: never for anything but tests.
    """

    def __init__(self, home: Home, ports: Ports, *, for_tests: bool = False) -> None:
        self.bootstrap = f"127.0.0.1:{ports.client}"
        self.ports = ports
        self._home = home
        self._for_tests = for_tests
        self._data = home.state / "kafka"
        self._run = home.run / "kafka"
        self._log = home.logs / "kafka.log"
        self._process: Process | None = None
        self._archive: Path | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def running(self) -> bool:
        return self._process is not None and self._process.running()

    @property
    def died(self) -> bool:
        """Whether it is gone without having been told to stop."""
        return self._process is not None and self._process.died

    async def start(self, step: Step | None = None) -> None:
        """Fetch what is missing, format on first use, start, and return once the broker serves.

        A broker that outlived us (we were killed) is taken over when it listens where we expect
        it, else stopped.
        """
        step = step or Silent().quiet_step()
        if (left := survivor(self._home.run)) and await self._adopt(*left):
            return
        java = await asyncio.to_thread(find_java)
        class_path = await jars.class_path(self._home, step)
        step.note("")
        self._run.mkdir(mode=0o700, exist_ok=True)
        (self._run / "log4j2.properties").write_text(LOGGING, "utf-8")
        rotate(self._log)
        archive = await _archive_of(self._home, java, class_path)
        base = self._base(java, class_path)
        if not (self._data / "meta.properties").exists():
            await self._format(base, archive)
        await self._launch(base, archive)

    async def stop(self) -> None:
        """Stop in order: what was acknowledged is on disk."""
        if not self._process:
            return
        # The JVM reports SIGTERM as 143: a clean end.
        await self._process.stop(signal.SIGTERM)
        self._process = None
        (self._home.run / "kafka.json").unlink(missing_ok=True)
        if self._archive:
            with contextlib.suppress(FileNotFoundError):
                _writing(self._archive).replace(self._archive)

    async def kill(self) -> None:
        """Kill -9: for tests of what a crash loses (nothing that was acknowledged)."""
        if self._process:
            await self._process.kill()
            self._process = None

    async def _adopt(self, pid: int, port: int) -> bool:
        process = Process(pid)
        if port == self.ports.client and await self._serves(process) and await process.lasts():
            self._process = process
            return True
        await process.stop(signal.SIGTERM)
        return False

    def _base(self, java: Path, class_path: Sequence[Path]) -> list[str]:
        return [
            str(java),
            *TUNED,
            "-cp",
            os.pathsep.join(map(str, class_path)),
            f"-Dlog4j2.configurationFile={self._run / 'log4j2.properties'}",
            # The codecs unpack native libraries: a killed JVM must not leave them in /tmp.
            f"-Djava.io.tmpdir={self._run}",
        ]

    def _properties(self, data: Path) -> Path:
        password = None if self._for_tests else self._home.password("kafka-broker")
        path = self._run / ("server.properties" if data == self._data else "format.properties")
        write_private(path, properties(self.ports, data, broker_password=password))
        return path

    async def _format(self, base: Sequence[str], archive: Path) -> None:
        fresh = self._data.with_name("kafka.new")
        shutil.rmtree(fresh, ignore_errors=True)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # The id is an argument of its own, and one that starts with a dash would read as an option.
        arguments = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster}"]
        arguments += ["-c", str(self._properties(fresh))]
        if not self._for_tests:
            for user in (BROKER, ADMIN):
                secret = self._home.password(f"kafka-{user}")
                arguments += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={secret}]"]
        # Passwords in a file that only we can read: a command line is everybody's to see.
        file = self._run / "format.arguments"
        write_private(file, "\n".join(_quoted(argument) for argument in arguments) + "\n")
        try:
            await processes.run(
                [*base, *_sharing(archive), f"@{file}"], log=self._log, seconds=START_SECONDS
            )
        finally:
            file.unlink()
        # Only a finished folder gets the final name: being killed leaves nothing half made.
        fresh.rename(self._data)

    async def _launch(self, base: Sequence[str], archive: Path) -> None:
        config = self._properties(self._data)
        sharing = _sharing(archive)
        if not sharing:
            self._archive = archive
            sharing = [f"-XX:ArchiveClassesAtExit={_writing(archive)}"]
        process = Process.spawn(
            [*base, *sharing, "kafka.Kafka", str(config)],
            log=self._log,
            env=os.environ,
            nice=NICE,
        )
        self._process = process
        state = {"pid": process.pid, "port": self.ports.client}
        write_private(self._home.run / "kafka.json", json.dumps(state))
        if not await self._serves(process):
            raise EmbeddedError(
                f"Kafka did not start; its last words ({self._log}):\n{tail(self._log)}"
            )

    async def _serves(self, process: Process) -> bool:
        """Wait for the port: the broker opens it only once the controller lets it serve."""
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while process.running() and asyncio.get_running_loop().time() < deadline:
            if accepts(self.ports.client):
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False


def survivor(run: Path) -> tuple[int, int] | None:
    """Return process id and port of a broker that an earlier user of this folder left, if any."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        state = json.loads((run / "kafka.json").read_text("utf-8"))
        pid, port = int(state["pid"]), int(state["port"])
        if is_alive(pid) and str(run / "kafka") in command_line(pid):
            return pid, port
    return None


def accepts(port: int) -> bool:
    """Tell whether something listens on a loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _quoted(argument: str) -> str:
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


async def _archive_of(home: Home, java: Path, class_path: Sequence[Path]) -> Path:
    """Return where this java keeps its archive of loaded classes for this class path.

    It halves the CPU time of a start, is bound to the exact java and class path, and may be
    missing or bad: then the start is only slower. It is written when a broker stops.
    """
    if not _has_own_archive(java):
        # The wheel ships without Java's own archive, and ours can only build upon that one.
        with contextlib.suppress(EmbeddedError):
            await processes.run(
                [str(java), "-Xshare:dump"], log=home.logs / "kafka.log", seconds=120
            )
    return home.cache / f"kafka-{_fingerprint(java, class_path)}.jsa"


def _fingerprint(java: Path, class_path: Sequence[Path]) -> str:
    real = java.resolve()
    about = f"{real} {real.stat().st_mtime_ns} {[str(path) for path in class_path]}"
    return hashlib.sha256(about.encode()).hexdigest()[:16]


def _has_own_archive(java: Path) -> bool:
    return any((java.resolve().parent.parent / "lib" / "server").glob("classes*.jsa"))


def _sharing(archive: Path) -> list[str]:
    return [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto"] if archive.exists() else []


def _writing(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.{os.getpid()}")
