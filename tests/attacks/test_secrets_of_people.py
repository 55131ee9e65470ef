"""What people prove themselves by, marked, on its good and its bad ways through the console."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import orjson
import pyotp
import pytest

from services.console.app import SERVICE
from services.console.http.keys import SENDING
from services.console.setup import offer
from shared.db.pool import transaction
from shared.events.devices import DeviceUnenrolled
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Answer, RecordedCalls, Trial, trial
from tests.attacks.marked import Marked, everything_logged, everything_traced, mark_keys, nowhere
from tests.console.browsing import Browser, prove
from tests.console.by_provider import company, fields_of
from tests.console.idp import SECRET
from tests.console.test_webhooks import Receiver, _event, receivers
from tools.embedded.testing import MakeDatabase

__all__ = ["receivers"]

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EMAIL = "ada@example.org"
ODD = ("{}", "{}\x00", "{}\ud800", "{}" + "x" * 9000, "{}\n<b>'\"{{{{7*7}}}}")
"""Spellings of a secret that parsers and the database stumble over."""


class Watched(Browser):
    """Keeps all that it was answered but what is shown once, on purpose."""

    def __init__(self, service: Trial, marked: Marked, seen: list[str]) -> None:
        super().__init__(service)
        self.marked, self.seen, self.on_purpose = marked, seen, False

    def _keep(self, answer: Answer) -> None:
        super()._keep(answer)
        if cookie := self.cookies.get("muster"):
            self.marked.know("session cookie", cookie)
        if self.token:
            self.marked.know("token of a page", self.token)
        headers = {name: value for name, value in answer.headers.items() if name != "Set-Cookie"}
        text = "" if self.on_purpose else answer.text.replace(self.token or "-", "")
        self.seen.append(f"{answer.status} {headers} {text}")

    async def shown(self, path: str, fields: dict[str, Any], pattern: str, name: str) -> str:
        """What a page shows once, and marks it."""
        self.on_purpose = True
        answer = await self.post(path, fields)
        self.on_purpose = False
        assert answer.status == 200, answer.text
        [found] = re.findall(pattern, answer.text)
        self.marked.know(name, str(found))
        return str(found)

    async def json(self, path: str, data: bytes) -> Answer:
        headers = {"Origin": self.origin, "X-CSRF-Token": self.token}
        return await self.send("POST", path, data, headers | {"Content-Type": "application/json"})


class Home:
    """A console whose every word is kept."""

    def __init__(self, service: Trial, marked: Marked) -> None:
        self.service, self.marked, self.seen = service, marked, list[str]()

    def browser(self) -> Watched:
        return Watched(self.service, self.marked, self.seen)

    async def set_up(self, password: str) -> tuple[Watched, pyotp.TOTP]:
        """The first owner, who took a wrong link, a bad password and a wrong code before."""
        async with transaction(self.service.context.pool) as tx:
            token = await offer(tx, self.service.context.clock)
        assert token is not None
        self.marked.know("set-up link", token)
        owner = self.browser()
        owner.on_purpose = True  # the form goes to the link that it came by
        assert (await owner.get(f"/set-up/{token}")).status == 200
        person = {"name": "Ada", "email": EMAIL, "password": self.marked.text("password")[:9]}
        assert (await owner.post(f"/set-up/{token}", person)).status == 422
        owner.on_purpose = False
        await owner.post(f"/set-up/{self.marked.text('set-up link')}", person)
        person["password"] = password
        assert (await owner.post(f"/set-up/{token}", person)).status == 303
        assert (await owner.post(f"/set-up/{token}", person)).status == 403
        await owner.get("/second-factor")
        app = await self.offered(owner, "/second-factor/offer")
        answer = await owner.post("/second-factor/confirm", {"code": self.code(app)})
        assert answer.status == 303
        await owner.get("/me/sessions")
        return owner, app

    async def offered(self, browser: Watched, path: str) -> pyotp.TOTP:
        seed = await browser.shown(path, {}, r"<code[^>]*>(\w+)</code>", "seed of an app")
        return pyotp.TOTP(seed)

    def code(self, app: pyotp.TOTP) -> str:
        self.service.context.clock.advance(timedelta(minutes=1))  # type: ignore[attr-defined]
        return app.at(self.service.context.clock.now())

    async def sign_in_badly(self, password: str) -> None:
        """With every spelling of a wrong password, as form, as query, as JSON, as rubbish."""
        for odd in ODD:
            browser, wrong = self.browser(), odd.format(self.marked.text("password"))
            await browser.get("/sign-in")
            path = "/sign-in"
            body = urlencode({"email": odd, "password": wrong}, errors="surrogatepass")
            form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": browser.origin}
            csrf = f"csrf={browser.token}&"
            answers = [
                await browser.send("POST", path, (csrf + body).encode(), form),
                await browser.send("POST", path, body.encode(), form),
                await browser.send("POST", f"{path}?{body}", csrf.encode(), form),
                await browser.get(f"{path}?{body}"),
                await browser.json(path, orjson.dumps({"password": wrong.encode().hex()}))
                if odd != ODD[2]
                else await browser.json(path, b"{" + body.encode()),
            ]
            assert not [answer.text for answer in answers if answer.status >= 500]
        browser = self.browser()
        await browser.get("/sign-in")
        answer = await browser.post("/sign-in", {"email": EMAIL, "password": password})
        assert answer.status == 303

    async def tokens(self, owner: Watched) -> None:
        fields = {"name": "Reports", "permission": ["inventory.read"]}
        pattern = r'id="token">(mst_[\w-]+)<'
        token = await owner.shown("/me/tokens", fields, pattern, "API token")
        path, nobody = "/api/v1/console/token", {"Authorization": ""}
        body = {"token": token, "audience": "inventory"}
        given = await self.service.call("POST", path, body, headers=nobody)
        access = given.json["access_token"]
        for part in access.split("."):
            self.marked.know("access token", part[-40:])
        for odd in ODD:
            wrong = odd.format(f"mst_{self.marked.text('API token')}")
            bodies: list[Any] = [{"token": wrong, "audience": wrong}, {"token": [wrong]}, [wrong]]
            for bad in bodies:
                data = (
                    orjson.dumps(bad, default=str) if odd != ODD[2] else b"{" + wrong[:40].encode()
                )
                headers = nobody | {"Content-Type": "application/json"}
                answer = await self.service.send("api", "POST", path, data, headers)
                self.seen.append(f"{answer.status} {answer.text}")
        for bearer in (token, access, access + "x", access[:-5], f"{access}.{access}"):
            headers = {"Authorization": f"Bearer {bearer}"}
            answer = await self.service.call("GET", "/api/v1/console/devices", headers=headers)
            self.seen.append(f"{answer.status} {answer.text}")

    async def links(self, owner: Watched) -> None:
        """Of somebody who joins, of a reset, of a sealed account; and wrong ones."""
        bob = {"name": "Bob", "email": "bob@example.org", "role": "operator"}
        pattern = r'id="link">http://localhost:8080(/join/[\w-]+)<'
        link = await owner.shown("/settings/people", bob, pattern, "link to join")
        self.marked.know("link to join", link.rpartition("/")[2])
        sealed = {"name": "Safe", "email": "safe@example.org"}
        other = await owner.shown("/settings/people/sealed", sealed, pattern, "link to join")
        self.marked.know("link to join", other.rpartition("/")[2])
        browser = self.browser()
        await browser.get("/sign-in")
        for odd in ODD[:1] + ODD[3:]:
            wrong = odd.format(self.marked.text("link to join"))[:7000]
            await browser.get(f"/join/{urlencode({'a': wrong})[2:]}")
            await browser.post(f"/join/{urlencode({'a': wrong})[2:]}", {"password": wrong})
        browser.on_purpose = True
        await browser.get(link)
        await browser.post(link, {"password": self.marked.text("password")[:8]})
        browser.on_purpose = False
        joined = await browser.post(link, {"password": self.marked.text("password")})
        assert joined.status == 303
        await browser.get(link)

    async def own_password(self, owner: Watched, old: str) -> None:
        async def ticket() -> str:
            found = fields_of(await owner.post("/me/password/begin"))["ticket"]
            self.marked.know("ticket", found)
            return found

        async def change(**fields: str) -> int:
            return (await owner.post("/me/password", fields)).status

        owner.on_purpose = True  # tickets go into the next form
        wrong, new = self.marked.text("password"), self.marked.text("password")
        assert await change(ticket=await ticket(), old=wrong, new=new) >= 400
        assert await change(ticket=self.marked.text("ticket"), old=old, new=new) >= 400
        assert await change(ticket=await ticket(), old=old, new=new) == 303
        owner.on_purpose = False
        await owner.get("/me/sessions")

    async def webhook(self, owner: Watched, receiver: Receiver) -> None:
        fields = {"name": "SIEM", "url": receiver.url, "event_type": [DeviceUnenrolled.TYPE]}
        pattern = r'id="secret">whsec_([^<]+)<'
        secret = await owner.shown("/settings/webhooks", fields, pattern, "webhook secret")
        assert secret
        await self.service.hears(_event(uuid4()), service="enrollment")
        sending = self.service.parts.values[SENDING]
        await sending.run()
        await sending.settled()
        [(headers, body)] = receiver.heard
        self.seen.append(f"{headers} {body.decode()}")


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    environ = {"MUSTER_OUTBOUND_LOOPBACK": "true", "MUSTER_TRACES_SHARE": "1"}
    dsn = await make_database("console")
    clock, calls = FixedClock(NOW), RecordedCalls()
    async with trial(
        SERVICE, dsn, tmp_path, clock=clock, environ=environ, internal=calls
    ) as running:
        yield running


async def test_the_console_tells_nobody(
    service: Trial, receivers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    marked = Marked()
    mark_keys(marked, tmp_path)
    home = Home(service, marked)
    with everything_logged() as log, everything_traced() as spans:
        password = marked.text("password")
        owner, app = await home.set_up(password)
        await home.sign_in_badly(password)

        prove(monkeypatch)
        await home.tokens(owner)
        await home.links(owner)
        await home.own_password(owner, password)
        await home.webhook(owner, await receivers())
        for page in (
            "/",
            "/devices",
            "/audit",
            "/settings/people",
            "/settings/webhooks",
            "/me/tokens",
        ):
            assert (await owner.get(page)).status == 200, page
        assert home.code(app)
    assert "canary" in log.getvalue()
    seen = "\n".join(home.seen)
    await nowhere(marked, service, log=log.getvalue(), spans=spans(), seen=seen)


async def test_while_the_database_is_away_nothing_is_told_either(service: Trial) -> None:
    marked, seen = Marked(), list[str]()
    home = Home(service, marked)
    with everything_logged() as log, everything_traced() as spans:
        browser = home.browser()
        await browser.get("/sign-in")
        service.context.pool.terminate()
        await browser.post("/sign-in", {"email": EMAIL, "password": marked.text("password")})
        await browser.get(f"/join/{marked.text('link to join')}")
        await browser.get(f"/set-up/{marked.text('set-up link')}")
        body = {"token": f"mst_{marked.text('API token')}", "audience": "inventory"}
        path, nobody = "/api/v1/console/token", {"Authorization": ""}
        answer = await service.call("POST", path, body, headers=nobody)
        seen += [*home.seen, f"{answer.status} {answer.text}"]
    assert "A request could not be served now" in log.getvalue()
    assert marked.found_in("\n".join([*seen, log.getvalue(), spans()])) == []


async def test_a_database_that_refuses_us_is_named_without_its_password(
    make_database: MakeDatabase, tmp_path: Path
) -> None:
    marked, dsn = Marked(), await make_database("console")
    secret = marked.text("password of the database")
    wrong, many = re.subn(r"//([^:/@]+)(:[^@]*)?@", f"//nobody_here:{secret}@", dsn)
    assert many == 1
    with everything_logged() as log:
        try:
            async with trial(SERVICE, wrong, tmp_path) as running:
                await running.context.pool.fetchval("SELECT 1")
                pytest.fail("it was let in")
        except Exception as error:
            logging.getLogger("test").exception("Not started")
            told = "".join(traceback.format_exception(error))
    assert "Not started" in log.getvalue()
    assert marked.found_in(log.getvalue() + told) == []


async def test_the_way_through_a_provider_tells_nobody(
    make_database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove(monkeypatch)
    marked, seen = Marked(), list[str]()
    marked.know("OIDC client secret", SECRET)
    for theirs in ("idpyoidc", "cryptojwt", "aiohttp.access"):  # the provider is in here
        monkeypatch.setattr(logging.getLogger(theirs), "disabled", True)
        monkeypatch.setattr(logging.getLogger(theirs), "level", logging.CRITICAL)
    dsn = await make_database("console")
    with everything_logged() as log, everything_traced() as spans:
        async with company(dsn, tmp_path) as here:
            browser, given = await here.gone()
            for name in ("code", "state"):
                marked.know(f"OIDC {name}", given[name])
            answer = await here.brought(browser, given)
            seen.append(answer.text)
            other, spoilt = await here.gone()
            wrong = marked.text("OIDC code")
            for values in (spoilt | {"code": wrong}, {"state": marked.text("OIDC state")}, {}):
                answer = await other.get(f"{here.back}?{urlencode(values)}")
                answer = await other.post(here.back, values)
                seen.append(answer.text)
            here.idp.server.keyjar.add_symmetric("muster", marked.text("OIDC client secret"))
            await here.owner.get("/settings/identity")
            for page in ("/settings/identity", f"/settings/identity/{here.provider_id}", "/audit"):
                seen.append((await here.owner.get(page)).text)
            await nowhere(
                marked, here.service, log=log.getvalue(), spans=spans(), seen="\n".join(seen)
            )
