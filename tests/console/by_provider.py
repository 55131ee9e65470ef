"""Steps that tests of identity providers share: one that is set up, and the way there and back."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from services.console.app import SERVICE
from shared.bus import outbox
from shared.events import Event
from shared.events.audit import AuditRecorded
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Answer, Trial, trial
from tests.console.browsing import Browser, signed_in
from tests.console.idp import CLIENT, SECRET, Idp, serving

PLACE = "/settings/identity"


@dataclass
class Company:
    """A console that knows a provider; `owner` set it up."""

    service: Trial
    idp: Idp
    owner: Browser
    provider_id: str

    @property
    def back(self) -> str:
        return f"/sign-in/callback/{self.provider_id}"

    async def use(self, **fields: str) -> Answer:
        return await self.owner.post(f"{PLACE}/{self.provider_id}/use", fields)

    async def link(self, account_id: object, subject: str) -> Answer:
        path = f"/settings/people/{account_id}/identities/{self.provider_id}/link"
        return await self.owner.post(path, {"subject": subject})

    async def subject(self, user: str = "diana") -> str:
        """Who somebody is there, as they are told when nobody linked them."""
        self.idp.user = user
        answer = await self.brought(*await self.gone())
        [subject] = re.findall(r"you are (\w+) there", answer.text)
        return str(subject)

    async def gone(self, following: str = "/") -> tuple[Browser, dict[str, str]]:
        """A new browser that was at the provider, and what it was sent back with."""
        browser = Browser(self.service)
        await browser.get("/sign-in")
        fields = {"next": following}
        answer = await browser.post(f"/sign-in/with/{self.provider_id}", fields)
        assert answer.status == 200, answer.text
        return browser, await self.idp.visited(address(answer))

    async def brought(self, browser: Browser, given: dict[str, str]) -> Answer:
        """Back: the page that the provider sends to, and the form that it sends itself."""
        shown = await browser.get(f"{self.back}?{urlencode(given)}")
        assert shown.status == 200, shown.text
        return await browser.post(self.back, fields_of(shown))


def address(answer: Answer) -> str:
    [found] = re.findall(r'href="([^"]+)" rel="noreferrer" data-go', answer.text)
    return html.unescape(str(found))


def fields_of(answer: Answer) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', answer.text)
    return {name: html.unescape(value) for name, value in found if name != "csrf"}


async def events(service: Trial, kind: type[Event]) -> list[Any]:
    async with service.context.pool.acquire() as connection:
        told = await outbox.read(connection, "console")
    return [event for event in told if isinstance(event, kind)]


async def refusals(service: Trial) -> list[str]:
    """Why, as the audit has it."""
    records = await events(service, AuditRecorded)
    return [each.after["why"] for each in records if each.action == "session.refuse"]


@asynccontextmanager
async def company(
    dsn: str, folder: Path, alg: str = "ES256", more: Mapping[str, str] | None = None
) -> AsyncIterator[Company]:
    """Every request must count as stepped up (the fixture `proven`)."""
    environ = {"MUSTER_OUTBOUND_LOOPBACK": "true", **(more or {})}
    clock = FixedClock(datetime.now(UTC))
    async with (
        serving(folder) as idp,
        trial(SERVICE, dsn, folder, clock=clock, environ=environ) as service,
    ):
        owner = await signed_in(service, role="owner")
        made = await owner.post(PLACE, {"name": "Company", "issuer": idp.issuer})
        assert made.status == 303, made.text
        found = Company(service, idp, owner, made.headers["Location"].rpartition("/")[2])
        shown = await owner.get(f"{PLACE}/{found.provider_id}")
        [redirect_uri] = re.findall(r'id="redirect">([^<]+)<', shown.text)
        idp.knows(html.unescape(redirect_uri), alg)
        form = await owner.post(f"{PLACE}/{found.provider_id}/client", {"client_id": CLIENT})
        fields = fields_of(form) | {"secret": SECRET}
        assert (await owner.post(f"{PLACE}/{found.provider_id}/secret", fields)).status == 303
        assert (await found.use(enabled="true")).status == 303
        yield found
