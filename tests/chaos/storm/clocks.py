"""Clocks that can be wrong: each service has its own, set from outside through a small file."""

from __future__ import annotations

import mmap
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

_SECONDS = struct.Struct("d")


class MovedClock:
    """The system's time and what a dial adds to it, looked up anew each time."""

    def __init__(self, file: Path) -> None:
        with file.open("rb") as opened:
            self._dial = mmap.mmap(opened.fileno(), _SECONDS.size, access=mmap.ACCESS_READ)

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=_SECONDS.unpack(self._dial[:])[0])


class Dial:
    """Sets one service's clock wrong, and right again."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.turn(0)

    def turn(self, seconds: float) -> None:
        if self.file.exists():
            # In place: the processes have the file mapped.
            with self.file.open("r+b") as opened:
                opened.write(_SECONDS.pack(seconds))
        else:
            self.file.write_bytes(_SECONDS.pack(seconds))
