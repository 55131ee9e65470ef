"""A browser in front of the console, without a window: cookies, origin, tokens of pages.

browser = await signed_in(service, everywhere=["inventory.read"])
answer = await browser.get("/devices")
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http.cookies import SimpleCookie
from urllib.parse import urlencode
from uuid import UUID

import pytest

from services.console.http.keys import SESSIONS
from services.console.sessions import Visit
from services.console.step_up import StepUp
from services.console.store import accounts
from shared.db.pool import transaction
from shared.events.base import uuid7
from shared.runtime.testing import Answer, Trial

ORIGIN = "http://localhost:8080"
"""Of the address that a trial's settings name by default."""
ADD_ROLE = """
INSERT INTO role (role_id, name, permissions) VALUES ($1, $1, $2)
"""


class Browser:
    """Keeps cookies and the last page's token; follows nothing by itself."""

    def __init__(self, service: Trial, *, origin: str = "") -> None:
        self.service, self.origin = service, origin or service.context.settings.address
        self.cookies: dict[str, str] = {}
        self.token = ""
        self.account_id: UUID | None = None

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.send("GET", path, None, headers)

    async def post(
        self,
        path: str,
        fields: Mapping[str, str | Sequence[str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A form with the token of the last page."""
        values = {"csrf": self.token, **(fields or {})}
        given = {
            "Origin": self.origin,
            "Content-Type": "application/x-www-form-urlencoded",
            **(headers or {}),
        }
        return await self.send("POST", path, urlencode(values, doseq=True).encode(), given)

    async def send(
        self,
        method: str,
        path: str,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        given = {**({"Cookie": cookies} if cookies else {}), **(headers or {})}
        answer = await self.service.send("api", method, path, data, given)
        self._keep(answer)
        return answer

    def _keep(self, answer: Answer) -> None:
        for line in answer.headers.getall("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                if morsel.value:
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)
        if found := re.search(r'"X-CSRF-Token": "([\w-]+)"', answer.text if answer.body else ""):
            self.token = found[1]


async def signed_in(
    service: Trial,
    *,
    everywhere: Sequence[str] = (),
    groups: Mapping[UUID, Sequence[str]] | None = None,
    role: str | None = None,
    name: str = "Ada Lovelace",
    email: str = "",
) -> Browser:
    """The browser of somebody who holds this; it has seen the first page."""
    browser, now = Browser(service), service.context.clock.now()
    account_id = browser.account_id = uuid7(now)
    async with transaction(service.context.pool) as tx:
        await accounts.add(tx, account_id, name, email or f"{account_id}@example.org", now)
        held = [(None, everywhere), *(groups or {}).items()]
        for group, permissions in held:
            if not permissions:
                continue
            role_id = f"test-{uuid7()}"
            await tx.execute(ADD_ROLE, role_id, list(permissions))
            await accounts.grant(tx, uuid7(now), account_id, role_id, group, now, "test")
        if role is not None:
            await accounts.grant(tx, uuid7(now), account_id, role, None, now, "test")
        sessions = service.parts.values[SESSIONS]
        visit = Visit("203.0.113.7", "Test browser")
        secret = await sessions.begin(tx, account_id, "test", visit, proven=True)
    browser.cookies["muster"] = secret
    await browser.get("/me/sessions")
    return browser


def prove(patch: pytest.MonkeyPatch) -> None:
    """Every request counts as stepped up: test_step_up.py shows what that takes."""

    async def always(_self: StepUp, _person: object, _digest: str) -> bool:
        return True

    patch.setattr(StepUp, "is_proven", always)


def later(service: Trial, by: timedelta) -> None:
    """Move the clock of a service that was given one that stands still."""
    service.context.clock.advance(by)  # type: ignore[attr-defined]


def words_of(answer: Answer) -> str:
    """What a page says, without its markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())
