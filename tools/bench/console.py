"""`make bench-console`: how long every page, filter, order, search and CSV of the console takes.

A fleet is loaded through the console's own handlers; one process serves, this one asks over HTTP,
first alone and then with ten at once. The plans of the three slowest lists come last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import aiohttp

from services.console.app import SERVICE
from services.console.http.device_models import DeviceQuery
from services.console.http.keys import SESSIONS
from services.console.sessions import Visit
from services.console.store import accounts, view_lists
from services.console.views.queries import READING, found_by
from shared.db.pool import Connection, Pool, transaction
from shared.events import uuid7
from shared.runtime.testing import Trial, trial
from tools.bench import machine
from tools.bench.console_fleet import Fleet
from tools.bench.console_requests import Asked, requests
from tools.embedded import testing
from tools.embedded.cluster import REPOSITORY
from tools.embedded.postgres import Postgres

CLIENTS: Final = (1, 10)
_MILLI: Final = 1e3
_SLOWEST: Final = 3

Times = dict[str, list[float]]


async def _serve(dsn: str, folder: Path) -> None:
    """Be the process that serves; says where, and ends with its standard input."""
    async with trial(SERVICE, dsn, folder) as service:
        secret = await _sign_in(service)
        told = {"url": service.url("api"), "cookie": secret, "token": service.token()}
        print(json.dumps(told), flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def _sign_in(service: Trial) -> str:
    now, account_id = datetime.now(UTC), uuid7()
    async with transaction(service.context.pool) as tx:
        await accounts.add(tx, account_id, "Bench", "bench@example.org", now)
        await accounts.grant(tx, uuid7(), account_id, "owner", None, now, "bench")
        sessions = service.parts.values[SESSIONS]
        begun: str = await sessions.begin(
            tx, account_id, "bench", Visit("127.0.0.1", "bench"), proven=True
        )
    return begun


@asynccontextmanager
async def _serving(dsn: str, folder: Path) -> AsyncIterator[dict[str, str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tools.bench.console",
        "--serve",
        dsn,
        "--folder",
        str(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the serving process has no pipes")
    try:
        yield json.loads(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


async def _ask(session: aiohttp.ClientSession, base: str, asked: Asked) -> float:
    """Seconds to the whole answer, of a stream to its first byte."""
    begun = time.perf_counter()
    async with session.get(base + asked.path) as response:
        if response.status != 200:  # noqa: PLR2004
            raise RuntimeError(f"{asked.path} answered {response.status}")
        await (response.content.readany() if asked.stream else response.read())
        took = time.perf_counter() - begun
        if asked.stream:
            response.close()
    return took


async def _measure(told: dict[str, str], wanted: Sequence[Asked], clients: int, each: int) -> Times:
    """Every client asks for everything `each` times, each in an order of its own."""
    times: Times = {one.name: [] for one in wanted}
    headers = {"Cookie": f"muster={told['cookie']}", "Authorization": f"Bearer {told['token']}"}

    async def client(number: int) -> None:
        async with aiohttp.ClientSession(headers=headers) as session:
            for turn in range(each):
                first = (number * 7 + turn * 3) % len(wanted)
                for one in (*wanted[first:], *wanted[:first]):
                    times[one.name].append(await _ask(session, told["url"], one))

    await asyncio.gather(*(client(number) for number in range(clients)))
    return times


def _lines(times: Times, clients: int) -> list[dict[str, Any]]:
    lines = []
    for name, took in times.items():
        cuts = statistics.quantiles(took, n=20, method="inclusive")
        lines.append(
            {
                "scenario": f"console: {name}",
                "clients": clients,
                "requests": len(took),
                "p50_ms": round(_MILLI * statistics.median(took), 1),
                "p95_ms": round(_MILLI * cuts[18], 1),
                "max_ms": round(_MILLI * max(took), 1),
            }
        )
    return sorted(lines, key=lambda line: -float(line["p95_ms"]))


class _Explaining:
    """Stands for a connection: says how PostgreSQL answers, and answers."""

    def __init__(self, tx: Connection) -> None:
        self._tx = tx
        self.plans: list[str] = []

    async def fetch(self, statement: str, *values: Any) -> Any:
        rows = await self._tx.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", *values)
        self.plans.append("\n".join([statement.strip(), *(row[0] for row in rows)]))
        return await self._tx.fetch(statement, *values)


async def _plans(pool: Pool, path: str) -> list[str]:
    """The plans of the statements behind a list."""
    given: dict[str, Any] = {}
    for name, value in parse_qsl(urlsplit(path).query):
        field = DeviceQuery.model_fields[name]
        if "list" in str(field.annotation):
            given.setdefault(name, []).append(value)
        else:
            given[name] = value
    query = DeviceQuery.model_validate(given)
    async with transaction(pool, READING) as tx:
        explaining: Any = _Explaining(tx)
        matching, _ = await found_by(explaining, query.filters(), None, datetime.now(UTC))
        await view_lists.page(explaining, matching, query.order(), 51)
    return list(explaining.plans)


async def _run(devices: int, each: int) -> int:
    with testing.home(REPOSITORY / ".muster") as home:
        port = home.ports(["postgres"])["postgres"]
        server = Postgres(home, port, for_tests=True)
        async with testing.running(server) as postgres:
            databases = testing.Databases(postgres.admin_dsn)
            async with databases.lent() as make:
                return await _bench(await make("console"), home.root / "console", devices, each)


async def _bench(dsn: str, folder: Path, devices: int, each: int) -> int:
    print(json.dumps({"machine": machine.facts(), "devices": devices}), flush=True)
    fleet, begun = Fleet(devices), time.perf_counter()
    async with trial(SERVICE, dsn, folder) as service:
        events = await fleet.load(service.context.road, service.parts.handlers)
        took = time.perf_counter() - begun
        line = {"scenario": "console: load", "events": events, "seconds": round(took, 1)}
        print(json.dumps(line | {"per_second": round(events / took)}), flush=True)
        await service.context.pool.execute("VACUUM ANALYZE")
        wanted = requests(fleet)
        slowest: list[str] = []
        async with _serving(dsn, folder) as told:
            await _measure(told, wanted, 1, 2)
            for clients in CLIENTS:
                times = await _measure(told, wanted, clients, max(2, each // clients))
                lines = _lines(times, clients)
                for line in lines:
                    print(json.dumps(line), flush=True)
                slowest = slowest or [line["scenario"].partition(": ")[2] for line in lines]
        paths = {one.name: one.path for one in wanted if one.name.startswith("devices: ")}
        for name in [one for one in slowest if one in paths][:_SLOWEST]:
            for plan in await _plans(service.context.pool, paths[name]):
                print(f"\n-- {name}\n{plan}", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--each", type=int, default=40, help="times that each request is made")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(_serve(given.serve, given.folder))
        return 0
    return asyncio.run(_run(given.devices, given.each))


if __name__ == "__main__":
    sys.exit(main())
