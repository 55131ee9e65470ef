"""The layout of `.muster/`: what a checkout keeps between runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.embedded.errors import AlreadyRunningError, EmbeddedError

# Below the kernel's ephemeral range (32768 and up on Linux), so that no outgoing connection of
# anybody can take a port that we remembered while we were stopped.
FIRST_PORT = 20_000
PORTS = 10_000


@dataclass(frozen=True)
class Home:
    """One `.muster` folder; `cache` may lie elsewhere, because tests share the one big thing in
    it, the jars.
    """

    root: Path
    cache: Path = field(default=Path())

    @classmethod
    def at(cls, root: Path, *, cache: Path | None = None) -> Home:
        """Create the folders; `root` is made absolute."""
        root = root.resolve()
        home = cls(root, (cache or root / "cache").resolve())
        for folder in (home.state, home.run, home.logs, home.cache):
            folder.mkdir(parents=True, exist_ok=True)
        home.secrets.mkdir(mode=0o700, exist_ok=True)
        return home

    @property
    def state(self) -> Path:
        """Data of the servers: what a backup would take, together with `secrets`."""
        return self.root / "state"

    @property
    def run(self) -> Path:
        """Process ids, locks and generated configuration: of use only while something runs."""
        return self.root / "run"

    @property
    def keys(self) -> Path:
        """Services' private keys, a folder each, and `public/` with everybody's public halves."""
        return self.root / "keys"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    def password(self, name: str) -> str:
        """Return the password kept under `name`, made up the first time; its file is readable by
        us only.
        """
        path = self.secrets / name
        with contextlib.suppress(FileNotFoundError):
            if kept := path.read_text(encoding="utf-8").strip():
                return kept
        value = secrets.token_urlsafe(24)
        write_private(path, value + "\n")
        return value

    def ports(self, names: Sequence[str], *, running: Sequence[str] = ()) -> dict[str, int]:
        """Return a loopback port for each name, chosen once and then remembered.

        A remembered port that somebody else has taken meanwhile is replaced, unless its name is in
        `running`: there the somebody is a server of ours that is still up.
        """
        path = self.root / "ports.json"
        kept: dict[str, int] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        chosen = dict(kept)
        for name in names:
            if name not in chosen or (name not in running and not is_free(chosen[name])):
                chosen[name] = free_port(avoid=chosen.values())
        if chosen != kept:
            write_private(path, json.dumps(chosen, indent=1) + "\n")
        return {name: chosen[name] for name in names}

    @contextlib.contextmanager
    def lock(self, name: str = "up") -> Iterator[None]:
        """Hold the checkout for one process; the kernel lets go when the process ends, however it
        ends.
        """
        with locked(self.run / f"{name}.lock"):
            yield


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock on a file; without `wait`, refuse at once when somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            raise AlreadyRunningError(_held_message(file.read().strip())) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _held_message(holder: str) -> str:
    who = f"process {holder}" if holder else "another process"
    return f"Muster already runs from this checkout ({who}): stop that one first, with Ctrl-C."


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 in one step: a reader sees the old or the new, never half."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_row(length: int) -> int:
    """Return the first of so many loopback ports in a row that are free now."""
    while True:
        first = free_port()
        if all(is_free(first + number) for number in range(1, length)):
            return first


def free_port(*, avoid: Iterable[int] = ()) -> int:
    """Return a random port that is free now; random, so that checkouts that choose while stopped
    differ.
    """
    taken = set(avoid)
    for _ in range(200):
        port = FIRST_PORT + secrets.randbelow(PORTS)
        if port not in taken and is_free(port):
            return port
    raise EmbeddedError(
        f"found no free loopback port between {FIRST_PORT} and {FIRST_PORT + PORTS}: "
        "is this machine allowed to listen on 127.0.0.1?"
    )
