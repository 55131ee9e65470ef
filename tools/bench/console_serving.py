"""The process of the console that `make bench-console` asks, and the processes behind it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from services.console.app import SERVICE
from services.console.http.keys import SESSIONS
from services.console.sessions import Visit
from services.console.store import accounts
from shared.db.pool import transaction
from shared.events import uuid7
from shared.runtime.testing import Trial, trial


@dataclass(frozen=True)
class Serving:
    """Where the console answers, and as whom it may be asked."""

    url: str
    owner: Mapping[str, str]
    """Headers of somebody who may do everything, with all devices."""
    scoped: Mapping[str, str]
    """The same with the devices of one group."""
    console: int
    others: int
    """Process ids."""


@asynccontextmanager
async def serving(dsns: Mapping[str, str], folder: Path, group_id: UUID) -> AsyncIterator[Serving]:
    """The console in a process of its own, the services that it asks in another."""
    others = ["tools.bench.console_others", json.dumps(dict(dsns)), str(folder)]
    async with _process(others) as (asked, urls):
        own = ["tools.bench.console_serving", dsns["console"], str(folder), str(group_id)]
        async with _process([*own, json.dumps(urls)]) as (pid, told):
            yield Serving(**told, console=pid, others=asked)


@asynccontextmanager
async def _process(arguments: Sequence[str]) -> AsyncIterator[tuple[int, Any]]:
    """A module of ours as a process, and the line that it says when it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the serving process has no pipes")
    try:
        yield process.pid, json.loads(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


async def _serve(dsn: str, folder: Path, group_id: UUID, urls: str) -> None:
    """Be the console; says where, and ends with its standard input."""
    environ = {"MUSTER_INTERNAL_URLS": urls}
    async with trial(SERVICE, dsn, folder, environ=environ) as service:
        told = {
            "url": service.url("api"),
            "owner": await _headers(service, None),
            "scoped": await _headers(service, group_id),
        }
        print(json.dumps(told), flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def _headers(service: Trial, group_id: UUID | None) -> dict[str, str]:
    """The session of a new owner, of everything or of one group."""
    now, account_id = datetime.now(UTC), uuid7()
    async with transaction(service.context.pool) as tx:
        await accounts.add(tx, account_id, "Bench", f"{account_id}@example.org", now)
        await accounts.grant(tx, uuid7(), account_id, "owner", group_id, now, "bench")
        sessions = service.parts.values[SESSIONS]
        visit = Visit("127.0.0.1", "bench")
        secret = await sessions.begin(tx, account_id, "bench", visit, proven=True)
    return {"Cookie": f"muster={secret}"}


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], Path(sys.argv[2]), UUID(sys.argv[3]), sys.argv[4]))
