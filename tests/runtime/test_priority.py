"""Processes that nobody waits for give way to the others on their machine."""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from shared.runtime import priority
from shared.runtime.service import Role
from tools.cli import run

_THREADED = """
import threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def child() -> Iterator[int]:
    """A process with two threads that leads a session of its own, as a server of ours does."""
    process = subprocess.Popen(
        [sys.executable, "-c", _THREADED], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    process.kill()
    process.wait()
    process.stdout.close()


def threads(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(one.name) for one in tasks.iterdir()] if tasks.exists() else [pid]


def niceness(pid: int) -> set[int]:
    """Of all its threads."""
    return {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads(pid)}


def slices(pid: int) -> set[int]:
    """Nanoseconds that each of its threads may run before another has its turn.

    See sched_getattr(2); 0: this kernel tells no slices.
    """
    number = {"x86_64": 315, "aarch64": 275}[platform.machine()]
    found = ctypes.create_string_buffer(48)
    told: set[int] = set()
    for thread in threads(pid):
        assert ctypes.CDLL(None).syscall(number, thread, found, 48, 0) == 0
        told.add(struct.unpack("=IIQiIQQQ", found.raw)[5])
    return told


def test_every_thread_and_the_session_give_way(child: int) -> None:
    priority.lower(17, child)
    assert niceness(child) == {17}
    session = Path(f"/proc/{child}/autogroup")
    if session.exists():
        assert session.read_text().split()[-2:] == ["nice", "17"]


@pytest.mark.skipif(sys.platform != "linux", reason="slices are a matter of this kernel")
def test_every_thread_lets_itself_be_interrupted(child: int) -> None:
    usual = slices(os.getpid())
    priority.lower(0, child)
    assert slices(child) == usual
    priority.lower(17, child)
    assert {os.sched_getscheduler(thread) for thread in threads(child)} == {os.SCHED_BATCH}
    assert niceness(child) == {17}
    if usual != {0}:
        assert min(slices(child)) > max(usual)


def test_who_gives_way_further_already_is_left_alone(child: int) -> None:
    priority.lower(17, child)
    priority.lower(3, child)
    assert niceness(child) == {17}
    session = Path(f"/proc/{child}/autogroup")
    if session.exists():
        assert session.read_text().split()[-1] == "17"


def test_a_session_that_others_lead_is_not_lowered_with_us() -> None:
    """Else a consumer begun in a terminal would take the shell with it."""
    own = Path("/proc/self/autogroup")
    before = own.read_text() if own.exists() else ""
    code = "import os; from shared.runtime.priority import lower; lower(17, os.getpid())"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (own.read_text() if own.exists() else "") == before


@pytest.mark.parametrize(
    ("roles", "lowered"),
    [(("consumer", "worker"), [13]), (("worker",), [13]), (("http", "consumer", "worker"), [])],
)
def test_only_processes_without_a_server_give_way(
    monkeypatch: pytest.MonkeyPatch, roles: list[Role], lowered: list[int]
) -> None:
    found: list[int] = []
    monkeypatch.setattr(priority, "lower", lambda nice, _pid: found.append(nice))

    def end(work: Coroutine[Any, Any, None]) -> None:
        work.close()

    monkeypatch.setattr(uvloop, "run", end)
    monkeypatch.setenv("MUSTER_DATABASE_URL", "postgresql://nowhere")
    monkeypatch.setenv("MUSTER_BACKGROUND_NICE", "13")
    run.run(argparse.Namespace(service="console", role=roles, processes=1))
    assert found == lowered
