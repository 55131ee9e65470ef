"""How long until a command's outcome is on the open page of its device: answered → shown.

Each device's page is open in the tab Commands, as a browser has it: it hears by server-sent events
that something changed, and then fetches the tab again, until that says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

import aiohttp

from services.console.sessions import Sessions, Visit
from services.console.store import accounts
from shared.db.pool import open_pool, transaction
from shared.events import uuid7
from shared.runtime.clock import SystemClock
from tools.bench import scenarios
from tools.bench.bench import Bench, JsonLine
from tools.bench.driver import Manner
from tools.bench.events import Times, duration
from tools.bench.muster import Muster

RATE: Final = 10.0
"""Answers a second."""
MOST: Final = 100
"""Pages open at once."""
_DONE: Final = "Acknowledged"
_CHANGED: Final = b"event: changed"
_PATIENCE: Final = 120.0
_LOOK_SECONDS: Final = 0.2


async def shown(bench: Bench) -> AsyncIterator[JsonLine]:
    """Commands wait; pages are opened; then the devices answer, one after the other."""
    muster, devices = bench.muster, bench.devices[:MOST]
    _, asked = await scenarios.enqueue(bench.ground, devices)
    talks = await scenarios.talks(bench.ground, asked)
    await bench.calm()
    ids = [muster.device_ids[device.udid] for device in devices]
    async with _browser(muster) as browser:
        opened = [asyncio.Event() for _ in ids]
        pages = [
            asyncio.create_task(_open(browser, one, begun))
            for one, begun in zip(ids, opened, strict=True)
        ]
        async with asyncio.timeout(_PATIENCE):
            await asyncio.gather(*(one.wait() for one in opened))
        manner = Manner(16, rate=RATE, keep_times=True)
        _, measured = await scenarios.answer(bench.ground, talks, manner, "answers to open pages")
        found = dict(one for one in await asyncio.gather(*pages) if one)
    # A device's last request is its answer.
    answered: Times = {ids[place]: began for place, began, _ in measured.times}
    yield {**duration("answered → on the open page", answered, found), "rate": RATE}


@asynccontextmanager
async def _browser(muster: Muster) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who is signed in and may see everything."""
    dsn, now, account_id = (
        muster.cluster.running.services["console"].database_url,
        datetime.now(UTC),
        uuid7(),
    )
    pool = await open_pool(dsn, name="bench", max_size=1)
    try:
        async with transaction(pool) as tx:
            await accounts.add(tx, account_id, "Bench", f"{account_id}@example.org", now)
            await accounts.grant(tx, uuid7(), account_id, "owner", None, now, "bench")
            visit = Visit("127.0.0.1", "bench")
            sessions: Any = Sessions(pool, SystemClock())
            secret = await sessions.begin(tx, account_id, "bench", visit, proven=True)
    finally:
        await pool.close()
    port = muster.cluster.serving("console").ports["api"]
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Cookie": f"muster={secret}"}
    base = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession(base, headers=headers, connector=connector) as session:
        yield session


async def _open(
    browser: aiohttp.ClientSession, device_id: str, opened: asyncio.Event
) -> tuple[str, float] | None:
    """Keep a device's page open until one outcome more is on it; None: it never was."""
    path, deadline = f"/devices/{device_id}", time.monotonic() + _PATIENCE
    # The console may not have heard of it yet.
    while (before := await _outcomes(browser, path)) is None:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_SECONDS)
    while time.monotonic() < deadline:
        # The stream ends after a minute, and a browser comes back.
        async with browser.get(f"{path}/live", params={"tab": "commands"}) as stream:
            async for line in stream.content:
                if not line.startswith(_CHANGED):
                    continue
                if (await _outcomes(browser, path) or 0) > before:
                    return device_id, time.perf_counter()
                opened.set()
    return None


async def _outcomes(browser: aiohttp.ClientSession, path: str) -> int | None:
    """How many the tab tells of; None: there is no such device."""
    headers = {"HX-Request": "true", "HX-Target": "tab"}
    async with browser.get(path, params={"tab": "commands"}, headers=headers) as answer:
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        answer.raise_for_status()
        return (await answer.text()).count(_DONE)
