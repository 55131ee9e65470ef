"""NanoMDM as a server under test: from its Go module, as shipped, on a PostgreSQL of its own.

The same binaries and settings of PostgreSQL as Muster's, fsync on. NanoMDM's connection pool is the
one it ships: as many connections as there are requests, two of them kept.
"""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from tools.bench.bodies import TOPIC
from tools.bench.driver import Target, http_request
from tools.bench.fleet import Device
from tools.bench.meter import Admin, Ledger
from tools.bench.system import Calls, Door, Work
from tools.embedded.errors import EmbeddedError
from tools.embedded.home import Home
from tools.embedded.opened import Opened
from tools.embedded.postgres import Postgres
from tools.embedded.processes import Process, tail
from tools.simulator.wire.messages import xml

VERSION: Final = "0.9.0"
MODULE: Final = "github.com/micromdm/nanomdm"
_HOST: Final = "127.0.0.1"
_DATABASE: Final = "nanomdm"
_START_SECONDS = 20.0
_NO_GO = (
    "bench-peers builds NanoMDM from its Go module and `go` was not found: install Go 1.21 or "
    "newer (your system's package `golang`, or a PATH that holds it)."
)

# What its storage hands out: queued and active, without a result or with NotNow.
LEFT = """
SELECT count(*) FROM enrollment_queue AS q
LEFT JOIN command_results AS r USING (id, command_uuid)
WHERE q.active AND (r.status IS NULL OR r.status = 'NotNow')
"""
FORGET = "DELETE FROM enrollment_queue"


def install(cache: Path) -> Path:
    """The folder with `nanomdm` and `schema.sql`, built the first time. Raises EmbeddedError."""
    folder = cache / f"nanomdm-{VERSION}"
    if (folder / "schema.sql").exists():
        return folder
    if shutil.which("go") is None:
        raise EmbeddedError(_NO_GO)
    folder.mkdir(parents=True, exist_ok=True)
    package = f"{MODULE}/cmd/nanomdm@v{VERSION}"
    _go(["install", package], {"GOBIN": str(folder)})
    modules = Path(_go(["env", "GOMODCACHE"], {}).strip())
    schema = modules / f"{MODULE}@v{VERSION}" / "storage" / "pgsql" / "schema.sql"
    shutil.copyfile(schema, folder / "schema.sql.new")
    (folder / "schema.sql.new").rename(folder / "schema.sql")
    return folder


def _go(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    done = subprocess.run(
        ["go", *arguments], env={**os.environ, **environ}, capture_output=True, text=True,
        check=False, cwd="/",
    )  # fmt: skip
    if done.returncode:
        raise EmbeddedError(f"`go {' '.join(arguments)}` failed:\n{done.stderr[-2000:]}")
    return done.stdout


class NanoMdm(Opened):
    """`async with NanoMdm(root, cache, authority) as peer`: an empty database, ready for load."""

    admin: Admin

    def __init__(self, root: Path, cache: Path, authority: bytes) -> None:
        self.name = "nanomdm"
        self.topic = TOPIC
        self._home = Home.at(root, cache=cache)
        self._authority = authority
        self._stack = AsyncExitStack()
        self._process: Process | None = None
        self._key = self._home.password("nanomdm-api")
        ports = self._home.ports(["postgres", "nanomdm"])
        self._postgres = Postgres(self._home, ports["postgres"])
        self._port = ports["nanomdm"]
        self.check_in = self.connect = Door(Target(_HOST, self._port), "/mdm")

    async def _start(self) -> None:
        folder = await asyncio.to_thread(install, self._home.cache)
        await self._postgres.start()
        self._stack.push_async_callback(self._postgres.stop)
        dsn = await self._database((folder / "schema.sql").read_text("utf-8"))
        self.admin = await asyncpg.connect(dsn)
        self._stack.push_async_callback(self.admin.close)
        authority = self._home.run / "devices-ca.pem"
        authority.write_bytes(self._authority)
        log = self._home.logs / "nanomdm.log"
        self._process = Process.spawn(
            [
                str(folder / "nanomdm"), "-listen", f"{_HOST}:{self._port}", "-ca", str(authority),
                "-api", self._key, "-storage", "pgsql", "-storage-dsn", f"{dsn}?sslmode=disable",
            ],
            log=log,
        )  # fmt: skip
        self._stack.push_async_callback(self._process.stop, signal.SIGTERM)
        await self._until_listening(log)

    async def _database(self, schema: str) -> str:
        """Create the database anew; return its dsn."""
        first = await asyncpg.connect(self._postgres.admin_dsn)
        try:
            await first.execute(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
            await first.execute(f"CREATE DATABASE {_DATABASE}")
        finally:
            await first.close()
        dsn = urlsplit(self._postgres.admin_dsn)._replace(path=f"/{_DATABASE}").geturl()
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(schema)
        finally:
            await connection.close()
        return dsn

    async def _until_listening(self, log: Path) -> None:
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((_HOST, self._port)) == 0:
                    return
            gone = self._process is None or not self._process.running()
            if gone or asyncio.get_running_loop().time() > deadline:
                raise EmbeddedError(f"NanoMDM did not start; its last words ({log}):\n{tail(log)}")
            await asyncio.sleep(0.05)

    def everything(self) -> dict[str, int]:
        if self._process is None or self._postgres.pid is None:
            raise RuntimeError("NanoMDM does not run")
        return {"nanomdm": self._process.pid, "postgres": self._postgres.pid}

    def ledger(self, work: Work) -> Ledger:
        del work  # one process does it all
        pids = self.everything()
        return Ledger({"nanomdm": pids["nanomdm"]}, {}, pids["postgres"])

    async def learn(self, devices: Sequence[Device]) -> None:
        """It trusts the CA."""

    async def know(self, devices: Sequence[Device]) -> None:
        """Who has enrolled is known."""

    def calls(self, groups: Sequence[Sequence[Device]]) -> Calls:
        secret = base64.b64encode(f"nanomdm:{self._key}".encode()).decode()
        headers = {"Authorization": f"Basic {secret}", "Content-Type": "application/xml"}
        self._asked = [str(uuid4()).upper() for _ in groups]
        requests = []
        for uuid, group in zip(self._asked, groups, strict=True):
            ids = ",".join(device.udid for device in group)
            body = xml({"Command": {"RequestType": "SecurityInfo"}, "CommandUUID": uuid})
            path = f"/v1/enqueue/{ids}?nopush=1"
            requests.append(http_request("PUT", path, f"{_HOST}:{self._port}", body, headers))
        return Calls(Target(_HOST, self._port), requests)

    def command_uuids(self, calls: Calls, answers: Mapping[int, bytes]) -> list[str]:
        del calls, answers  # they are what we called them
        return self._asked

    async def until_queued(self) -> None:
        """An enqueue call is answered when it is done."""

    async def left(self) -> int:
        return int(await self.admin.fetchval(LEFT))

    async def forget(self) -> None:
        await self.admin.execute(FORGET)
