"""Starting, finding again and stopping the servers' processes, always by process id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal as signals
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.runtime.priority import lower
from tools.embedded.errors import EmbeddedError

# Position of num_threads, field 20 of /proc/PID/stat, behind the state, field 3.
_THREADS = 16
POLL_SECONDS = 0.05
LAST_SECONDS = 0.2
KILL_SECONDS = 30
ROTATE_BYTES = 10_000_000
TAIL_BYTES = 2_000


@dataclass(frozen=True)
class Account:
    """As whom a program runs: as we are (nothing set), as another user, or behind a prefix such as
    `unshare`.
    """

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None


OURSELVES = Account()


class Process:
    """A server's process: a child that we started, or one found again after we were killed."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._child = child
        self._told_to_end = False

    @classmethod
    def spawn(
        cls,
        argv: Sequence[str],
        *,
        log: Path,
        account: Account = OURSELVES,
        env: Mapping[str, str] | None = None,
        nice: int = 0,
    ) -> Process:
        """Start a program in a session of its own: Ctrl-C in the terminal reaches us, and we stop
        servers in order. `nice`: how far it gives way to others.
        """
        with log.open("ab") as output:
            child = subprocess.Popen(
                [*account.prefix, *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=dict(env) if env is not None else None,
                start_new_session=True,
                user=account.uid,
                group=account.gid,
                extra_groups=[] if account.uid is not None else None,
            )
        if nice:
            lower(nice, child.pid)
        return cls(child.pid, child)

    def running(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return is_alive(self.pid)

    @property
    def died(self) -> bool:
        """Whether it is gone without having been told to end: `stop` and `kill` take their time."""
        return not self._told_to_end and not self.running()

    @property
    def returncode(self) -> int | None:
        """How a child ended; None while it runs, and always None for a process that is not our
        child.
        """
        return self._child.poll() if self._child else None

    def signal(self, number: signals.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def exited(self, seconds: float) -> bool:
        """Wait until the process has ended; False when it has not within `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.running():  # noqa: ASYNC110 - a process that is no child tells nobody
                    await asyncio.sleep(POLL_SECONDS)
                return True
        return False

    async def lasts(self) -> bool:
        """Tell whether the process is there and stays a moment: one just killed still answers."""
        await asyncio.sleep(LAST_SECONDS)
        return self.running()

    async def kill(self) -> None:
        """End the process without warning; returns when it is gone."""
        self._told_to_end = True
        self.signal(signals.SIGKILL)
        if not await self.exited(KILL_SECONDS):
            raise EmbeddedError(f"process {self.pid} does not end, even when killed")

    async def stop(self, number: signals.Signals, *, seconds: float = 30) -> None:
        """Ask with a signal, and kill what does not listen; returns when the process is gone."""
        self._told_to_end = True
        if not self.running():
            return
        self.signal(number)
        if not await self.exited(seconds):
            await self.kill()


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is no zombie (in a container nobody may reap those)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):
        # proc(5): the fields follow the name, which is in parentheses and may hold anything. The
        # first thread of a process that ends can be a zombie while others still hold its files.
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
        state, *numbers = stat.rpartition(")")[2].split()
        return state != "Z" or int(numbers[_THREADS]) > 1
    return True


def command_line(pid: int) -> str:
    """Return the arguments of a process, separated by spaces; empty when they cannot be read."""
    with contextlib.suppress(OSError):
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        ps = ["ps", "-p", str(pid), "-o", "args="]
        return subprocess.run(ps, capture_output=True, text=True, check=False, timeout=5).stdout
    return ""


async def run(
    argv: Sequence[str],
    *,
    log: Path,
    account: Account = OURSELVES,
    env: Mapping[str, str] | None = None,
    seconds: float = 600,
) -> None:
    """Run a program to its end, its output appended to `log`; raise with the end of that when it
    fails.
    """
    process = Process.spawn(argv, log=log, account=account, env=env)
    try:
        ended = await process.exited(seconds)
    finally:
        if process.running():
            await process.kill()
    if not ended:
        raise EmbeddedError(f"{argv[0]} did not finish within {seconds:.0f} s; see {log}")
    if process.returncode:
        raise EmbeddedError(f"{argv[0]} failed; its last words ({log}):\n{tail(log)}")


def rotate(log: Path) -> None:
    """Put a log aside that has grown large; one older file is kept."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > ROTATE_BYTES:
            log.replace(log.with_suffix(".old.log"))


def tail(log: Path) -> str:
    """Return the last lines of a log file."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")
    return ""
