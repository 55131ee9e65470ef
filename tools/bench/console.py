"""`make bench-console`: how long every page, filter, order, search and CSV of the console takes.

A fleet is loaded through the console's own handlers. One process serves the console, another the
services that its pages ask, this one asks over HTTP: first alone, page by page, which tells the CPU
of each as well; then with ten clients at once; and the same as somebody who has one group, of one
device in a hundred. The plans of the three slowest lists come last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import aiohttp

from services.console.app import SERVICE
from services.console.http.device_models import DeviceQuery
from services.console.store import view_lists
from services.console.views.queries import found_by
from shared.db.pool import READING, Connection, Pool, transaction
from shared.runtime.testing import trial
from tools.bench import console_audit, console_others, console_pages, console_rights, cpu, machine
from tools.bench.console_fleet import SMALL_GROUP, Fleet
from tools.bench.console_requests import Asked, Known, lists
from tools.bench.console_serving import Serving, serving
from tools.bench.console_tables import CLIENTS, Line, summary, table
from tools.embedded import testing
from tools.embedded.cluster import REPOSITORY
from tools.embedded.postgres import Postgres

_MILLI: Final = 1e3
_SLOWEST: Final = 3
_BUFFERS: Final = "128MB"
"""What PostgreSQL takes unless it is told otherwise; tests have less."""
_FORBIDDEN: Final = frozenset({403, 404})
_ONE: Final = """
SELECT serial, name, user_name AS user FROM device WHERE device_id = $1
"""

Times = dict[str, list[float]]


@dataclass(frozen=True)
class Ground:
    """What is asked, and whose CPU counts."""

    serving: Serving
    postgres: int
    """The postmaster's process id."""
    wanted: Sequence[Asked]


class Refused(Exception):  # noqa: N818 (a person may not see this)
    """The person who asks has no right to it."""


async def _ask(session: aiohttp.ClientSession, base: str, asked: Asked) -> float:
    """Seconds to the whole answer, of a stream to its first byte."""
    begun = time.perf_counter()
    async with session.get(base + asked.path, allow_redirects=False) as response:
        if response.status in _FORBIDDEN:
            raise Refused
        if response.status != 200:  # noqa: PLR2004
            raise RuntimeError(f"{asked.path} answered {response.status}")
        await (response.content.readany() if asked.stream else response.read())
        took = time.perf_counter() - begun
        if asked.stream:
            response.close()
    return took


async def _alone(ground: Ground, who: str, headers: Mapping[str, str], each: int) -> list[Line]:
    """One client, page by page; what somebody may not see is left out."""
    lines = []
    async with aiohttp.ClientSession(headers=headers) as session:
        for asked in ground.wanted:
            try:
                await _ask(session, ground.serving.url, asked)
            except Refused:
                continue
            before = _used(ground)
            took = [await _ask(session, ground.serving.url, asked) for _ in range(each)]
            after = _used(ground)
            costs = {name: _MILLI * (after[name] - before[name]) / each for name in after}
            lines.append(_line(asked.name, who, 1, took) | {"cpu_ms": _rounded(costs)})
            print(json.dumps(lines[-1]), flush=True)
    return lines


def _used(ground: Ground) -> dict[str, float]:
    """CPU seconds so far."""
    return {
        "console": cpu.cpu_seconds(ground.serving.console),
        "others": cpu.cpu_seconds(ground.serving.others),
        "postgres": cpu.family_cpu_seconds(ground.postgres),
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 1) for name, value in values.items()}


async def _together(
    ground: Ground, who: str, headers: Mapping[str, str], names: Sequence[str], each: int
) -> list[Line]:
    """Every client asks for everything `each` times, each in an order of its own."""
    wanted = [one for one in ground.wanted if one.name in set(names)]
    times: Times = {one.name: [] for one in wanted}

    async def client(number: int) -> None:
        async with aiohttp.ClientSession(headers=headers) as session:
            for turn in range(each):
                first = (number * len(wanted) // CLIENTS + turn * 3) % len(wanted)
                for one in (*wanted[first:], *wanted[:first]):
                    times[one.name].append(await _ask(session, ground.serving.url, one))

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    lines = [_line(name, who, CLIENTS, took) for name, took in times.items()]
    for line in lines:
        print(json.dumps(line), flush=True)
    return lines


def _line(name: str, who: str, clients: int, took: Sequence[float]) -> Line:
    cuts = statistics.quantiles(took, n=20, method="inclusive")
    return {
        "scenario": f"console: {name}",
        "who": who,
        "clients": clients,
        "requests": len(took),
        "p50_ms": round(_MILLI * statistics.median(took), 1),
        "p95_ms": round(_MILLI * cuts[18], 1),
        "max_ms": round(_MILLI * max(took), 1),
    }


async def measure(ground: Ground, each: int) -> list[Line]:
    """All of it, as the owner and as somebody with one group."""
    found: list[Line] = []
    for who, headers in (("owner", ground.serving.owner), ("scoped", ground.serving.scoped)):
        alone = await _alone(ground, who, headers, each)
        names = [line["scenario"].partition(": ")[2] for line in alone]
        found += alone
        if names:
            found += await _together(ground, who, headers, names, max(2, each // CLIENTS))
    return found


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


async def _run(options: argparse.Namespace) -> int:
    with testing.home(REPOSITORY / ".muster") as home:
        port = home.ports(["postgres"])["postgres"]
        server = Postgres(home, port, for_tests=True, buffers=_BUFFERS)
        async with testing.running(server) as postgres:
            databases = testing.Databases(postgres.admin_dsn)
            async with databases.lent() as make:
                dsns = {name: await make(name) for name in ("console", *console_others.SERVICES)}
                await _bench(dsns, home.root / "console", options)
    return 0


async def _bench(dsns: Mapping[str, str], folder: Path, options: argparse.Namespace) -> None:
    print(json.dumps({"machine": machine.facts(), "devices": options.devices}), flush=True)
    fleet = Fleet(options.devices)
    await _load(dsns["console"], folder, fleet)
    filled = await console_others.fill(dsns, fleet)
    entry = await console_audit.fill(dsns["console"], options.audit)
    async with (
        trial(SERVICE, dsns["console"], folder) as service,
        serving(dsns, folder, fleet.groups[SMALL_GROUP]) as told,
    ):
        pool, small = service.context.pool, fleet.groups[SMALL_GROUP]
        members = [one for one, groups in fleet.members.items() if small in groups]
        rights = await console_rights.measure(service, told.scoped, members)
        print(json.dumps(rights), flush=True)
        wanted = await requests(pool, told, fleet, console_pages.pages(fleet, filled, entry))
        lines = await measure(Ground(told, await postmaster(pool), wanted), options.each)
        print(f"\n{table(lines)}\n\n{summary(lines)}\n", flush=True)
        await _explain(pool, wanted, lines)


async def _load(dsn: str, folder: Path, fleet: Fleet) -> None:
    begun = time.perf_counter()
    async with trial(SERVICE, dsn, folder) as service:
        events = await fleet.load(service.context.road, service.parts.handlers)
        took = time.perf_counter() - begun
        line = {"scenario": "console: load", "events": events, "seconds": round(took, 1)}
        print(json.dumps(line | {"per_second": round(events / took)}), flush=True)
        await service.context.pool.execute("VACUUM ANALYZE")


async def requests(pool: Pool, told: Serving, fleet: Fleet, pages: Sequence[Asked]) -> list[Asked]:
    """Everything that is asked, by name."""
    [row] = await pool.fetch(_ONE, fleet.ids[len(fleet.ids) // 2])
    one = Known(**row)
    async with aiohttp.ClientSession(headers=told.owner) as session:
        further = await console_pages.second_pages(session, told.url)
    return [*pages, *lists(fleet, one), *further]


async def postmaster(pool: Pool) -> int:
    """The process that all of PostgreSQL's others are children of."""
    backend = await pool.fetchval("SELECT pg_backend_pid()")
    return next(parent for parent, children in cpu.children().items() if backend in children)


async def _explain(pool: Pool, wanted: Sequence[Asked], lines: Sequence[Line]) -> None:
    paths = {one.name: one.path for one in wanted if one.name.startswith("devices: ")}
    slowest = sorted(
        (line for line in lines if line["clients"] == 1 and line["who"] == "owner"),
        key=lambda line: -float(line["p95_ms"]),
    )
    names = [line["scenario"].partition(": ")[2] for line in slowest]
    for name in [one for one in names if one in paths][:_SLOWEST]:
        for plan in await _plans(pool, paths[name]):
            print(f"\n-- {name}\n{plan}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--audit", type=int, default=200_000, help="entries of the audit")
    parser.add_argument("--each", type=int, default=40, help="times that each request is made")
    return asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
