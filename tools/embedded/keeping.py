"""Keeping the embedded servers alive: what dies is started again, and a disk that fills is told.

Kafka halts when it cannot write, PostgreSQL when it cannot write its log; neither comes back by
itself. Both have kept what they acknowledged, so starting them again is always right.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tools.embedded import metrics
from tools.embedded.errors import EmbeddedError

log = logging.getLogger(__name__)

_EVERY_SECONDS = 0.5
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_MB = 1024 * 1024
# Low: a tenth of the disk, but on a large one not more than this.
_LOW_SHARE = 0.1
_LOW_BYTES = 2048 * _MB
ROOM = 48 * _MB
"""What a server needs to start: PostgreSQL writes a log segment of 16 MB, Kafka its snapshots."""

Say = Callable[[str], None]


class Server(Protocol):
    """A server as the keeper sees it."""

    @property
    def died(self) -> bool:
        """Whether it was started, was not told to stop, and is gone."""
        ...

    async def start(self) -> None: ...


@dataclass(frozen=True)
class Kept:
    """One server: what people call it, where its data lies, what works on without it."""

    name: str
    server: Server
    folder: Path
    meanwhile: str


@dataclass(frozen=True)
class Disk:
    """Space of the file system that holds a folder, in bytes."""

    free: int
    total: int

    @classmethod
    def of(cls, folder: Path) -> Disk:
        found = os.statvfs(folder)
        # What root may use beyond that is nothing to count on.
        return cls(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)

    @property
    def low(self) -> bool:
        return self.free < max(ROOM, min(self.total * _LOW_SHARE, _LOW_BYTES))

    @property
    def full(self) -> bool:
        return self.free < ROOM

    def __str__(self) -> str:
        return f"{self.free // _MB} MB of {self.total // _MB} MB are free"


class Keeper:
    """Watches servers until it is cancelled; `say` is for the person at the terminal."""

    def __init__(self, kept: Sequence[Kept], say: Say) -> None:
        self._kept, self._say = kept, say
        self._low: set[str] = set()

    async def run(self) -> None:
        await asyncio.gather(*(self._watch(each) for each in self._kept))

    async def _watch(self, kept: Kept) -> None:
        while True:
            try:
                self._look_at_disk(kept)
                metrics.SERVER_UP.labels(kept.name).set(int(not kept.server.died))
                if kept.server.died:
                    await self._bring_back(kept)
            except Exception:
                # Whatever it is: nobody else would bring the server back.
                log.exception("The keeper stumbled; it goes on", extra={"server": kept.name})
            await asyncio.sleep(_EVERY_SECONDS)

    def _look_at_disk(self, kept: Kept) -> Disk:
        disk = Disk.of(kept.folder)
        metrics.DISK_FREE.labels(kept.name).set(disk.free)
        metrics.DISK_LOW.labels(kept.name).set(int(disk.low))
        if disk.low and kept.name not in self._low:
            self._low.add(kept.name)
            self._tell(
                f"The disk under {kept.name} is nearly full ({kept.folder}: {disk}). "
                "Free some space there; what was acknowledged is safe."
            )
        elif not disk.low and kept.name in self._low:
            self._low.discard(kept.name)
            self._tell(f"The disk under {kept.name} has room again ({disk}).", logging.INFO)
        return disk

    async def _bring_back(self, kept: Kept) -> None:
        began, pause, waited = time.monotonic(), _FIRST_PAUSE, False
        self._tell(f"{kept.name} died and is started again; {kept.meanwhile}")
        while True:
            if (disk := self._look_at_disk(kept)).full:
                if not waited:
                    self._tell(
                        f"{kept.name} waits: its disk is full ({kept.folder}: {disk}). "
                        f"Free at least {ROOM // _MB} MB: it starts by itself then."
                    )
                waited = True
                await asyncio.sleep(_EVERY_SECONDS)
                continue
            try:
                await kept.server.start()
                break
            except (EmbeddedError, OSError) as error:
                self._tell(f"{kept.name} did not start, next try in {pause:.0f} s: {error}")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        metrics.SERVER_RESTARTS.labels(kept.name).inc()
        metrics.SERVER_UP.labels(kept.name).set(1)
        self._tell(
            f"{kept.name} is back after {time.monotonic() - began:.0f} s; nothing that was "
            "acknowledged is lost.",
            logging.INFO,
        )

    def _tell(self, text: str, level: int = logging.CRITICAL) -> None:
        log.log(level, text)
        self._say(text)
