"""Who gets to a page, and whose writes count: cookies, origins, tokens, headers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import jwt
import pytest

from services.console import paths
from services.console.app import SERVICE
from services.console.http.keys import ASKING
from services.console.http.pages import TEMPLATES
from services.console.people import Person
from services.console.permissions import ALL, BUILT_IN
from services.console.sessions import IDLE, MOST
from shared.bus import outbox
from shared.events.access import ViaRevoked
from shared.events.audit import AuditRecorded
from shared.runtime.clock import FixedClock
from shared.runtime.http import Caller
from shared.runtime.problems import Problem
from shared.runtime.testing import RecordedCalls, Trial, trial
from tests.console.browsing import ORIGIN, Browser, later, signed_in
from tools.embedded.testing import MakeDatabase

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def calls() -> RecordedCalls:
    return RecordedCalls()


@pytest.fixture
async def service(
    make_database: MakeDatabase, tmp_path: Path, calls: RecordedCalls
) -> AsyncIterator[Trial]:
    dsn, clock = await make_database("console"), FixedClock(NOW)
    async with trial(SERVICE, dsn, tmp_path, clock=clock, internal=calls) as running:
        yield running


async def test_a_stranger_gets_the_sign_in_page_and_keeps_the_way(service: Trial) -> None:
    answer = await Browser(service).get("/me/sessions?a=1")
    assert answer.status == 401
    assert 'action="/sign-in"' in answer.text
    assert 'name="next" value="/me/sessions?a=1"' in answer.text


async def test_a_part_of_a_page_sends_htmx_to_sign_in(service: Trial) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": f"{ORIGIN}/me/sessions"}
    answer = await Browser(service).get("/", headers)
    assert answer.status == 401
    assert answer.headers["HX-Redirect"] == "/sign-in?next=/me/sessions"


async def test_every_page_has_the_headers(service: Trial) -> None:
    browser = await signed_in(service)
    for answer in (
        await browser.get("/"),
        await Browser(service).get("/"),
        await browser.post("/me/sessions/x/end"),
    ):
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "same-origin"


async def test_over_http_the_cookie_has_another_name(service: Trial) -> None:
    browser = Browser(service)
    answer = await browser.get("/")
    [cookie] = answer.headers.getall("Set-Cookie")
    assert cookie.startswith("muster-visitor=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie


async def test_over_https_it_is_bound_to_the_host(
    make_database: MakeDatabase, tmp_path: Path
) -> None:
    environ = {"MUSTER_CONSOLE_URL": "https://muster.example.org"}
    dsn = await make_database("console")
    async with trial(SERVICE, dsn, tmp_path, environ=environ) as running:
        answer = await Browser(running).get("/")
        cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith("__Host-muster-visitor=")
        assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
        assert "max-age" in answer.headers["Strict-Transport-Security"]


async def test_a_session_ends_without_use(service: Trial) -> None:
    browser = await signed_in(service)
    for _ in range(3):
        later(service, IDLE - timedelta(seconds=1))
        assert (await browser.get("/")).status == 200
    later(service, IDLE)
    assert (await browser.get("/")).status == 401


async def test_a_session_ends_after_twelve_hours_of_use(service: Trial) -> None:
    browser = await signed_in(service)
    for _ in range(int(MOST / timedelta(minutes=10)) - 1):
        later(service, timedelta(minutes=10))
        assert (await browser.get("/")).status == 200
    later(service, timedelta(minutes=10))
    assert (await browser.get("/")).status == 401


@pytest.mark.parametrize("headers", [{"Accept": "text/event-stream"}, {"X-By-Itself": "yes"}])
async def test_a_forgotten_tab_keeps_no_session_alive(
    service: Trial, headers: dict[str, str]
) -> None:
    browser = await signed_in(service)
    later(service, IDLE - timedelta(seconds=1))
    assert (await browser.get("/", headers)).status == 200
    later(service, timedelta(seconds=1))
    assert (await browser.get("/")).status == 401


def test_what_a_page_asks_by_itself_says_so() -> None:
    """Also that nothing which a person may press lies inside: it would say so too."""
    asking = [
        (one.name, tag)
        for one in TEMPLATES.rglob("*.html")
        for tag in re.findall(r"<[a-z]+ [^<]*hx-trigger=[^<]*<", one.read_text())
        if re.search(r'hx-trigger="(?:sse:|every|load)', tag)
    ]
    assert len(asking) > 8
    assert [one for one in asking if "X-By-Itself" not in one[1]] == []
    kept = "".join(one.read_text() for one in TEMPLATES.rglob("*.html"))
    assert kept.count("X-By-Itself") == len(asking)


async def test_who_is_disabled_is_out_at_once(service: Trial) -> None:
    browser = await signed_in(service)
    await service.context.pool.execute("UPDATE account SET disabled_at = now()")
    assert (await browser.get("/")).status == 401


async def test_the_secret_of_a_session_is_stored_nowhere(service: Trial) -> None:
    browser = await signed_in(service)
    row = await service.context.pool.fetchval("SELECT session::text FROM session")
    assert browser.cookies["muster"] not in row


@pytest.mark.parametrize("origin", [None, "null", "http://localhost", "https://localhost:8080"])
async def test_a_write_of_another_site_is_refused(service: Trial, origin: str | None) -> None:
    browser = await signed_in(service)
    headers = {"Origin": origin or ""}
    answer = await browser.post("/sign-out", headers=headers)
    assert answer.status == 403
    assert "Open it at http://localhost:8080" in answer.text
    assert (await browser.get("/")).status == 200


async def test_a_write_needs_the_token_of_a_page(service: Trial) -> None:
    browser, other = await signed_in(service), await signed_in(service)
    for wrong in ("", "x", other.token, browser.token[:-1]):
        answer = await browser.post("/sign-out", {"csrf": wrong})
        assert answer.status == 403, wrong
        assert "Nothing was changed" in answer.text
    assert (await browser.get("/")).status == 200
    assert (await browser.post("/sign-out", {"csrf": browser.token})).status == 303
    assert (await browser.get("/")).status == 401


async def test_what_a_stranger_sends_is_not_read(
    service: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some forms hold megabytes (decision 76)."""

    async def never(*_: object) -> bytes:
        raise AssertionError("it was read")

    browser = Browser(service)
    await browser.get("/sign-in")
    monkeypatch.setattr("services.console.http.door.read_body", never)
    answer = await browser.post(f"/devices/{uuid4()}/actions/install", {"profile": "x"})
    assert answer.status == 401
    assert 'action="/sign-in"' in answer.text


async def test_htmx_brings_the_token_in_a_header(service: Trial) -> None:
    browser = await signed_in(service)
    headers = {"Origin": ORIGIN, "X-CSRF-Token": browser.token}
    assert (await browser.send("POST", "/sign-out", b"", headers)).status == 303


async def test_a_session_is_no_key_to_the_api(service: Trial) -> None:
    browser = await signed_in(service, role="owner")
    assert (await browser.get("/api/v1/console/audit")).status == 401


async def test_own_sessions_are_listed_and_ended(service: Trial) -> None:
    browser = await signed_in(service)
    shown = (await browser.get("/me/sessions")).text
    assert "Test browser" in shown
    assert "203.0.113.7" in shown
    [session_id] = re.findall(r"/me/sessions/([\w-]+)/end", shown)
    stranger = await signed_in(service, name="Mallory")
    assert (await stranger.post(f"/me/sessions/{session_id}/end")).status == 303
    assert (await browser.get("/")).status == 200
    assert (await browser.post(f"/me/sessions/{session_id}/end")).status == 303
    assert (await browser.get("/")).status == 401
    async with service.context.pool.acquire() as connection:
        told = await outbox.read(connection, "console")
    assert [type(event) for event in told] == [AuditRecorded, ViaRevoked]
    assert f"session:{session_id}" in str(told[1])


async def test_sessions_that_are_over_are_forgotten(service: Trial) -> None:
    await signed_in(service)
    await service.run_job("sweep_sessions")
    assert await service.context.pool.fetchval("SELECT count(*) FROM session") == 1
    later(service, MOST)
    await service.run_job("sweep_sessions")
    assert await service.context.pool.fetchval("SELECT count(*) FROM session") == 0


async def test_names_are_escaped(service: Trial) -> None:
    browser = await signed_in(service, name="<script>alert(1)</script>")
    answer = await browser.get("/")
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in answer.text


async def test_assets_are_kept_for_ever_and_named_by_their_content(service: Trial) -> None:
    browser = Browser(service)
    page = (await browser.get("/")).text
    [path] = set(re.findall(r'"(/assets/\w+/console\.js)"', page))
    answer = await service.send("api", "GET", path, headers={"Accept-Encoding": "gzip"})
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert "immutable" in answer.headers["Cache-Control"]
    assert "Set-Cookie" not in answer.headers
    older = await service.send("api", "GET", "/assets/0/console.js")
    assert (older.status, older.headers["Cache-Control"]) == (200, "no-store")
    for wrong in ("nothing.js", "../app.py", "%2e%2e/app.py", "..%2f..%2fsettings.py"):
        assert (await service.send("api", "GET", f"/assets/0/{wrong}")).status == 404


async def test_another_service_is_asked_with_the_persons_own_rights(
    service: Trial, calls: RecordedCalls
) -> None:
    group, other = uuid4(), uuid4()
    caller = Caller(
        "account:1",
        frozenset({"inventory.read", "audit.read"}),
        "203.0.113.7",
        {group: frozenset({"inventory.refresh"}), other: frozenset({"command.read"})},
    )
    person = Person(uuid4(), uuid4(), "Ada", "ada@example.org", caller)
    calls.answers["inventory", "/api/v1/inventory/devices"] = {"items": []}
    asking = service.parts.values[ASKING]
    assert await asking.ask(person, "inventory", "GET", "/api/v1/inventory/devices") == {
        "items": []
    }
    claims = jwt.decode(calls.tokens[0], options={"verify_signature": False})
    assert claims["permissions"] == ["inventory.read"]
    assert claims["groups"] == {str(group): ["inventory.refresh"]}
    assert claims["via"] == f"session:{person.session_id}"
    assert (claims["sub"], claims["source"]) == ("account:1", "203.0.113.7")
    assert claims["exp"] - claims["iat"] == 300


async def test_another_services_refusal_is_told_in_its_words(
    service: Trial, calls: RecordedCalls
) -> None:
    person = Person(uuid4(), uuid4(), "Ada", "a@b", Caller("account:1", frozenset()))
    where = ("inventory", "/api/v1/inventory/devices/1")
    calls.statuses[where] = 404
    calls.answers[where] = {"code": "device_unknown", "detail": "There is no such device."}
    with pytest.raises(Problem) as refused:
        await service.parts.values[ASKING].ask(person, where[0], "GET", where[1])
    assert (refused.value.status, refused.value.code) == (404, "device_unknown")
    assert refused.value.detail == "There is no such device."


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "/sign-out",
        "/sign-in?next=/",
        "javascript:alert(1)",
        "",
        "/a//b",
        "/a\r\nb",
        "/api/v1/console/audit",
        "/..//evil",
        "/%0d",
        "/assets/x/y",
        "/" + "a" * 3000,
    ],
)
def test_nobody_is_sent_elsewhere(wanted: str) -> None:
    assert paths.local(wanted) == "/"


@pytest.mark.parametrize("wanted", ["/devices?os=ios&sort=-name", "/devices/1a-2b", "/me/sessions"])
def test_the_way_is_kept(wanted: str) -> None:
    assert paths.local(wanted) == wanted


def test_no_role_holds_what_does_not_exist() -> None:
    assert all(held <= ALL for held in BUILT_IN.values())


def test_templates_keep_to_the_rules() -> None:
    """No escape from escaping, no inline script, style or handler: the policy would not let it."""
    folder = Path(SERVICE.build.__code__.co_filename).parent / "templates"
    for path in folder.rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"\|\s*safe|autoescape\s+false|Markup", text), path
        assert not re.search(r"\sstyle=|\son[a-z]+=|hx-on|hx-vals=.js:|<style|javascript:", text), (
            path
        )
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), path
        assert not re.search(r"https?://", text), path
