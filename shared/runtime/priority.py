"""Processes that follow give way to those that somebody waits for, on a machine that they share.

On Kubernetes requests of CPU say so; between processes of one machine `nice` does. Linux, though,
weighs sessions first where autogroups are on (sched(7)), and niceness then counts only inside one:
so a process that leads its session lowers the session as well.

Weights say who gets how much, not who goes first. That is what slices are for: a task that wakes
interrupts one whose slice is longer than its own, and waits for the end of any other's
(docs/decisions/0034-followers-are-interrupted.md). So processes that follow ask for long ones.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from shared.runtime.service import Role
from shared.runtime.settings import Settings

_TRIES = 30
_PAUSE_SECONDS = 0.1
"""The kernel takes one such wish in so long from all who are not root."""
_SLICE_NANOSECONDS = 20_000_000
"""Several times what everybody has who asked for nothing (some three milliseconds)."""
# sched_setattr(2): the number of the call, and its struct of the first version, which has the
# policy, niceness and, for those who share the processor fairly, the slice (since Linux 6.12).
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")


def give_way(roles: Collection[Role], settings: Settings) -> None:
    """Lower this process when nobody waits for its answers; call it before threads are begun."""
    if "http" not in roles:
        lower(settings.background_nice, os.getpid())


def lower(nice: int, pid: int) -> None:
    """Raise the niceness of a process to `nice` at least, as far as the system lets us."""
    leads = os.getsid(pid) == pid
    # Niceness belongs to a thread: that of the group reaches those which have begun already.
    kind = os.PRIO_PGRP if leads else os.PRIO_PROCESS
    with suppress(OSError):
        os.setpriority(kind, pid, max(nice, os.getpriority(kind, pid)))
    if nice:
        _be_interrupted(pid)
    if leads:
        with suppress(OSError):  # no Linux, no autogroups, or not our process
            _lower_session(Path(f"/proc/{pid}/autogroup"), nice)


def _be_interrupted(pid: int) -> None:
    """Let every task that wakes go before the threads of this process, which go before nobody."""
    number = _SCHED_SETATTR.get(platform.machine())
    tasks = Path(f"/proc/{pid}/task")
    if number is None or not tasks.is_dir():
        return
    library = ctypes.CDLL(None)
    for task in [int(one.name) for one in tasks.iterdir()]:
        with suppress(ProcessLookupError):  # it has ended
            nice = os.getpriority(os.PRIO_PROCESS, task)
            wish = _ATTRIBUTES.pack(
                _ATTRIBUTES.size, os.SCHED_BATCH, 0, nice, 0, _SLICE_NANOSECONDS, 0, 0
            )
            library.syscall(number, task, wish, 0)  # a kernel that knows no slices ignores them


def _lower_session(file: Path, nice: int) -> None:
    for _ in range(_TRIES):
        if int(file.read_text().split()[-1]) >= nice:
            return
        try:
            file.write_text(str(nice))
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS)
