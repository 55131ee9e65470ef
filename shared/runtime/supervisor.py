"""Several processes of one service on one machine, as if they were one.

The parent opens the listening sockets and never accepts; the children inherit them, so that all
accept from one queue. A child that goes takes no waiting peer with it, as the private queues of
SO_REUSEPORT would (decision 24).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from shared.runtime.connections import BACKLOG
from shared.runtime.listening import ListenerTaken, taken
from shared.runtime.settings import Listener, ListenerName, Settings

log = logging.getLogger(__name__)

KILLED = 137
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_READY_SECONDS = 120.0
_POLL_SECONDS = 0.1
# Beyond what the settings allow a child for its own orderly end.
_GRACE_SECONDS = 40.0
_PR_SET_PDEATHSIG = 1


def bound(listener: Listener) -> list[socket.socket]:
    """Listen on an address, on every protocol that its host name stands for."""
    found = socket.getaddrinfo(
        listener.host or None, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            sockets.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
            one.listen(BACKLOG)
    except OSError as error:
        for one in sockets:
            one.close()
        raise ListenerTaken(taken(listener, error)) from error
    return sockets


@dataclass
class Child:
    """One process of the service; `port` is its own internal address, for probes and metrics."""

    number: int
    port: int
    process: asyncio.subprocess.Process | None = None


class Supervisor:
    """Keeps `processes` children of `command` alive until it is told to stop.

    A child that ends is started again, with growing pauses while it fails. SIGTERM (or SIGINT)
    is passed on and ends all; SIGHUP replaces the children one after the other; children die with
    their parent, however it dies (on Linux).
    """

    def __init__(
        self,
        service: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        settings: Settings,
        listeners: Sequence[ListenerName],
        processes: int,
    ) -> None:
        self._service, self._command, self._environ = service, command, environ
        self._settings, self._listeners = settings, listeners
        self._sockets: dict[ListenerName, list[socket.socket]] = {}
        port = settings.internal_port
        self.children = [Child(n, port + 1 + n if port else 0) for n in range(processes)]
        self._stopping = asyncio.Event()
        self._rolling: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Open the sockets and keep the children; returns when all have ended."""
        try:
            for name in self._listeners:
                self._sockets[name] = bound(self._settings.listeners[name])
            self._take_signals()
            await asyncio.gather(*(self._keep(child) for child in self.children))
        finally:
            self._close_sockets()

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._roll)

    def _stop(self) -> None:
        """Once: everybody ends in order. Twice: at once."""
        if self._stopping.is_set():
            self._send(signal.SIGKILL)
            os._exit(KILLED)
        log.info("Stopping", extra={"processes": len(self.children)})
        self._stopping.set()
        if self._rolling is not None:
            self._rolling.cancel()
        self._send(signal.SIGTERM)
        # The children still accept for so long; then nobody may be left waiting in the queue.
        loop = asyncio.get_running_loop()
        loop.call_later(self._settings.drain_seconds, self._close_sockets)
        loop.call_later(self._patience, self._send, signal.SIGKILL)

    @property
    def _patience(self) -> float:
        settings = self._settings
        spent = settings.drain_seconds + settings.linger_seconds + settings.shutdown_seconds
        return spent + _GRACE_SECONDS

    def _close_sockets(self) -> None:
        for sockets in self._sockets.values():
            for one in sockets:
                one.close()

    def _send(self, number: signal.Signals) -> None:
        for child in self.children:
            if child.process is not None and child.process.returncode is None:
                child.process.send_signal(number)

    def _roll(self) -> None:
        if self._rolling is None or self._rolling.done():
            self._rolling = asyncio.create_task(self._replace_all())

    async def _replace_all(self) -> None:
        """End one child, wait until its successor is ready, then the next: SIGHUP."""
        for child in self.children:
            old = child.process
            if old is None or old.returncode is not None:
                continue
            log.info("A process is replaced", extra={**_about(child), "pid": old.pid})
            old.send_signal(signal.SIGTERM)
            if not await self._succeeded(child, old):
                log.error("No successor got ready: the others stay", extra=_about(child))
                return
        log.info("All processes are replaced")

    async def _succeeded(self, child: Child, old: asyncio.subprocess.Process) -> bool:
        deadline = time.monotonic() + self._patience + _READY_SECONDS
        while time.monotonic() < deadline:
            if child.process is not old and (not child.port or await is_ready(child.port)):
                return True
            await asyncio.sleep(_POLL_SECONDS)
        return False

    async def _keep(self, child: Child) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            begun = time.monotonic()
            child.process = process = await self._spawn(child)
            log.info("A process started", extra={**_about(child), "pid": process.pid})
            status = await process.wait()
            if self._stopping.is_set():
                return
            lived = time.monotonic() - begun
            if lived > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            if status == 0 and lived > _FIRST_PAUSE:
                log.info("A process was ended from outside; the next starts", extra=_about(child))
                continue
            log.error(
                "A process died; it is started again",
                extra={**_about(child), "status": status, "seconds": pause},
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _spawn(self, child: Child) -> asyncio.subprocess.Process:
        fds = {name: [one.fileno() for one in held] for name, held in self._sockets.items()}
        prefix = f"MUSTER_{self._service.upper()}"
        return await asyncio.create_subprocess_exec(
            *self._command,
            env={
                **self._environ,
                f"{prefix}_LISTEN_FDS": json.dumps(fds),
                f"{prefix}_INTERNAL_PORT": str(child.port),
            },
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=[fd for held in fds.values() for fd in held],
            # Ctrl-C in a terminal is for the parent alone: it tells the children once.
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),
        )


def _about(child: Child) -> dict[str, int]:
    return {"number": child.number, "port": child.port}


def die_with(parent: int) -> Callable[[], None]:
    """What a child does first: be killed when its parent dies (Linux: prctl(2))."""

    def prepare() -> None:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os._exit(KILLED)

    return prepare


async def is_ready(port: int) -> bool:
    """What /readyz of a child answers; False while it does not listen yet."""
    try:
        async with asyncio.timeout(_READY_SECONDS / 20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n")
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return line.split()[1:2] == [str(int(HTTPStatus.OK)).encode()]
