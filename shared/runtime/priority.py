"""Processes that follow give way to those that somebody waits for, on a machine that they share.

On Kubernetes requests of CPU say so; between processes of one machine `nice` does. Linux, though,
weighs sessions first where autogroups are on (sched(7)), and niceness then counts only inside one:
so a process that leads its session lowers the session as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from shared.runtime.service import Role
from shared.runtime.settings import Settings

_TRIES = 30
_PAUSE_SECONDS = 0.1
"""The kernel takes one such wish in so long from all who are not root."""


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
    if leads:
        with suppress(OSError):  # no Linux, no autogroups, or not our process
            _lower_session(Path(f"/proc/{pid}/autogroup"), nice)


def _lower_session(file: Path, nice: int) -> None:
    for _ in range(_TRIES):
        if int(file.read_text().split()[-1]) >= nice:
            return
        try:
            file.write_text(str(nice))
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS)
