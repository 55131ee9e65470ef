"""A real command_queue behind the console under test, in the place of recorded answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Page, expect

from services.command_queue.app import SERVICE as COMMAND_QUEUE
from services.console.app import SERVICE as CONSOLE
from services.console.setup import link, offer
from shared.db.pool import transaction
from shared.runtime.clock import FixedClock
from shared.runtime.internal import Answered
from shared.runtime.testing import RecordedCalls, Trial, trial
from tests.command_queue.fleet import Fleet
from tests.console.chromium import chromium, for_browsers, uncomplaining, with_a_key
from tests.console.fleet import START
from tools.embedded.testing import MakeDatabase

EMAIL, PASSWORD = "ada@example.org", "a walk in the wet woods"


class Asked(RecordedCalls):
    """Passes what the console asks in its one person's name on to a real command_queue."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: Trial | None = None
        self.actor = ""

    async def for_person(
        self,
        service: str,
        method: str,
        path: str,
        token: str,
        body: Mapping[str, Any] | None = None,
    ) -> Answered:
        if service != "command_queue" or self.queue is None:
            return await super().for_person(service, method, path, token, body)
        answer = await self.queue.call(method, path, body, actor=self.actor, via="session:one")
        return Answered(answer.status, answer.json)


@asynccontextmanager
async def queue_behind(
    calls: Asked, make_database: MakeDatabase, folder: Path, port: int, **settings: str
) -> AsyncIterator[Fleet]:
    """command_queue with devices; `port`: where browsers open the console."""
    clock = FixedClock(START)
    environ = {
        "MUSTER_COMMAND_QUEUE_CONSOLE_URL": f"http://localhost:{port}",
        "MUSTER_COMMAND_QUEUE_FAN_OUT_SHARE": "1",
        **settings,
    }
    dsn = await make_database("command_queue")
    async with trial(COMMAND_QUEUE, dsn, folder, clock=clock, environ=environ) as queue:
        calls.queue = queue
        fleet = Fleet(queue, clock)
        await fleet.publish()
        yield fleet


@asynccontextmanager
async def console_before(
    calls: Asked, make_database: MakeDatabase, folder: Path, port: int
) -> AsyncIterator[Trial]:
    """The console, at its own address."""
    dsn, clock, environ = await make_database("console"), FixedClock(START), for_browsers(port)
    async with trial(CONSOLE, dsn, folder, clock=clock, internal=calls, environ=environ) as running:
        yield running


@asynccontextmanager
async def owner_in_chromium(console: Trial, calls: Asked) -> AsyncIterator[Page]:
    """The overview, in the browser of the owner, who has a key; a complaint of it is a failure."""
    async with transaction(console.context.pool) as tx:
        token = await offer(tx, console.context.clock)
    assert token is not None
    async with chromium() as browser:
        context = await browser.new_context(base_url=console.context.settings.address)
        page = await context.new_page()
        await with_a_key(page)
        with uncomplaining(page):
            await page.goto(link(console.context.settings.address, token))
            await page.get_by_label("Your name").fill("Ada Lovelace")
            await page.get_by_label("E-mail").fill(EMAIL)
            await page.get_by_label("Password").fill(PASSWORD)
            await page.get_by_role("button", name="Go on").click()
            await page.get_by_role("button", name="Security key or passkey").click()
            await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
            async with console.context.pool.acquire() as connection:
                calls.actor = (
                    f"account:{await connection.fetchval('SELECT account_id FROM account')}"
                )
            yield page
