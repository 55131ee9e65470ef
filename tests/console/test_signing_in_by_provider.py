"""Signing in by an identity provider: a real one, and one that means harm."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
import pyotp
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from services.console.http.keys import SIGNING_IN
from services.console.identity.flows import PATIENCE
from shared.events.access import AccountState
from shared.events.audit import AuditRecorded
from tests.console.browsing import Browser, later, signed_in
from tests.console.by_provider import Company, address, company, events, refusals
from tests.console.idp import SECRET, serving
from tools.embedded.testing import MakeDatabase

pytestmark = pytest.mark.usefixtures("proven")


@pytest.fixture
async def here(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Company]:
    async with company(await make_database("console"), tmp_path) as found:
        yield found


async def _sessions(here: Company) -> int:
    return int(await here.service.context.pool.fetchval("SELECT count(*) FROM session"))


async def _linked(here: Company, user: str = "diana") -> Browser:
    """The browser of somebody whose identity is linked with their account."""
    somebody = await signed_in(here.service, role="read_only", name=user.capitalize())
    answer = await here.link(somebody.account_id, await here.subject(user))
    assert answer.status == 303, answer.text
    return somebody


async def _app(here: Company, somebody: Browser) -> pyotp.TOTP:
    """Their authenticator app."""
    codes, pool = here.service.parts.values[SIGNING_IN].codes, here.service.context.pool
    assert somebody.account_id is not None
    app = pyotp.TOTP(await codes.offer(somebody.account_id))
    now = here.service.context.clock.now()
    async with pool.acquire() as connection, connection.transaction():
        assert await codes.accept(connection, somebody.account_id, app.at(now))
    later(here.service, timedelta(seconds=60))
    return app


async def test_it_takes_the_place_of_the_password_and_of_nothing_else(here: Company) -> None:
    app = await _app(here, await _linked(here))
    browser, given = await here.gone("/me/sessions?a=1")
    assert set(given) >= {"code", "state", "iss"}
    answer = await here.brought(browser, given)
    assert (answer.status, answer.headers["Location"]) == (
        303,
        "/second-factor?next=%2Fme%2Fsessions%3Fa%3D1",
    )
    assert (await browser.get("/me/sessions")).status == 401
    shown = await browser.get("/second-factor")
    assert "Code of your authenticator app" in shown.text
    code = app.at(here.service.context.clock.now())
    answer = await browser.post("/second-factor/code", {"code": code, "next": "/me/sessions"})
    assert (answer.status, answer.headers["Location"]) == (303, "/me/sessions")
    assert (await browser.get("/me/sessions")).status == 200
    method = await here.service.context.pool.fetchval(
        "SELECT method FROM session WHERE method LIKE 'provider%'"
    )
    assert method == "provider+code"
    used = await here.service.context.pool.fetchval("SELECT used_at FROM identity")
    assert used is not None


async def test_what_is_asked_is_what_the_standard_wants(here: Company) -> None:
    browser = Browser(here.service)
    shown = await browser.get("/sign-in")
    assert f'action="/sign-in/with/{here.provider_id}"' in shown.text
    assert "Go on with Company" in shown.text
    assert "Go on with Company" in (await browser.get("/devices")).text
    answer = await browser.post(f"/sign-in/with/{here.provider_id}")
    url = address(answer)
    asked = dict(parse_qsl(urlsplit(url).query))
    assert url.startswith(f"{here.idp.issuer}/authorize?")
    assert asked["response_type"] == "code"
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == f"http://localhost:8080{here.back}"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) == 43
    again = address(await browser.post(f"/sign-in/with/{here.provider_id}"))
    other = dict(parse_qsl(urlsplit(again).query))
    assert all(other[name] != asked[name] for name in ("state", "nonce", "code_challenge"))
    kept = await here.service.context.pool.fetchval(
        "SELECT string_agg(identity_flow::text, ' ') FROM identity_flow"
    )
    assert asked["state"].encode().hex() not in kept
    assert asked["nonce"] not in kept


async def test_coming_back_does_nothing_before_the_page_sends_its_form(here: Company) -> None:
    await _linked(here)
    browser, given = await here.gone()
    before = await _sessions(here)
    for _ in range(2):
        assert (await browser.get(f"{here.back}?code=a&state={given['state']}")).status == 200
    assert await _sessions(here) == before
    without = {"csrf": "", "code": given["code"], "state": given["state"]}
    assert (await browser.post(here.back, without)).status == 403
    assert (await here.brought(browser, given)).status == 303


@pytest.mark.parametrize("alg", ["RS256", "PS256", "ES256", "EdDSA"])
async def test_signatures_of_these_kinds_count(
    make_database: MakeDatabase, tmp_path: Path, alg: str
) -> None:
    async with company(await make_database("console"), tmp_path, alg) as here:
        await _linked(here)
        assert (await here.brought(*await here.gone())).status == 303


def _by_hand(header: dict[str, Any], claims: dict[str, Any], key: bytes | None) -> str:
    """As libraries refuse to make it: signed by a shared secret (HS256), or not at all."""
    parts = [urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=") for part in (header, claims)]
    signed = b".".join(parts)
    made = hmac.digest(key, signed, hashlib.sha256) if key else b""
    return b".".join([signed, urlsafe_b64encode(made).rstrip(b"=")]).decode()


SPOILT: dict[str, tuple[Any, str]] = {
    "nonce of another": (lambda claims: claims | {"nonce": "x" * 43}, "nonce"),
    "no nonce": (lambda claims: {k: v for k, v in claims.items() if k != "nonce"}, "nonce"),
    "audience of another": (lambda claims: claims | {"aud": ["another"]}, "aud"),
    "no audience": (lambda claims: {k: v for k, v in claims.items() if k != "aud"}, "aud"),
    "for many, by nobody": (lambda claims: claims | {"aud": ["muster", "another"]}, "azp"),
    "given to another": (lambda claims: claims | {"azp": "another"}, "azp"),
    "issuer of another": (lambda claims: claims | {"iss": "https://evil.example"}, "iss"),
    "over": (lambda claims: claims | {"exp": claims["iat"] - 3600}, "expired"),
    "without an end": (lambda claims: {k: v for k, v in claims.items() if k != "exp"}, "exp"),
    "of tomorrow": (lambda claims: claims | {"iat": claims["iat"] + 86400}, "iat"),
    "not yet": (lambda claims: claims | {"nbf": claims["iat"] + 86400}, "nbf"),
    "nobody": (lambda claims: claims | {"sub": ""}, "names nobody"),
    "a list": (lambda claims: claims | {"sub": ["a"]}, ""),
    "alg none": (lambda claims: _by_hand({"alg": "none"}, claims, None), ""),
    "rubbish": (lambda _claims: "rubbish", "not readable"),
    "three rubbish": (lambda _claims: "e30.e30.e30", ""),
    "no token": (lambda _claims: "", ""),
    "very long": (lambda _claims: "x" * 40_000, "no ID token"),
}


@pytest.mark.parametrize("wrong", list(SPOILT))
async def test_a_token_that_does_not_count_is_refused(here: Company, wrong: str) -> None:
    """With a page that says why, a line in the audit, and no session."""
    await _linked(here)
    before, known = await _sessions(here), len(await refusals(here.service))
    here.idp.spoil, why = SPOILT[wrong]
    browser, given = await here.gone()
    answer = await here.brought(browser, given)
    assert answer.status == 403
    assert "The identity provider did not say who you are." in answer.text
    assert why in answer.text
    assert await _sessions(here) == before
    assert (await refusals(here.service))[known:] == ["provider_refused"]


async def test_keys_are_not_confused(here: Company) -> None:
    """HS256 with the public key, or with our secret, as the shared secret; a key of its own."""
    await _linked(here)
    jwks = here.idp.server.keyjar.export_jwks()["keys"]
    ec = next(key for key in jwks if key["kty"] == "EC")
    public = here.idp.private_key(ec["kid"]).as_pem(private=False)
    own = ECKey.generate_key("P-256", {"kid": ec["kid"]})

    def shared(key: bytes) -> Any:
        return lambda claims: _by_hand({"alg": "HS256", "kid": ec["kid"]}, claims, key)

    def embedded(claims: dict[str, Any]) -> str:
        header = {"alg": "ES256", "kid": ec["kid"], "jwk": own.as_dict(private=False)}
        return jwt.encode(header, claims, own, algorithms=["ES256"])

    for spoil in (shared(public), shared(SECRET.encode()), embedded):
        here.idp.spoil = spoil
        answer = await here.brought(*await here.gone())
        assert (answer.status, "does not count" in answer.text) == (403, True), answer.text


async def test_a_state_counts_once_in_its_browser_and_in_its_time(here: Company) -> None:
    await _linked(here)
    known = len(await refusals(here.service))
    browser, given = await here.gone()
    stranger = Browser(here.service)
    assert (await here.brought(stranger, given)).status == 403
    assert (await here.brought(browser, given | {"state": "x" * 43})).status == 403
    assert (await here.brought(browser, {"code": given["code"]})).status == 403
    assert (await here.brought(browser, given)).status == 303
    assert (await here.brought(browser, given)).status == 403
    late, given = await here.gone()
    later(here.service, PATIENCE)
    answer = await here.brought(late, given)
    assert (answer.status, "begin again" in answer.text) == (403, True)
    assert (await refusals(here.service))[known:] == ["state_unknown"] * 5


async def test_of_many_at_once_one_comes_in(here: Company) -> None:
    await _linked(here)
    before = await _sessions(here)
    browser, given = await here.gone()
    await browser.get(f"{here.back}?state=x")
    fields = {"code": given["code"], "state": given["state"], "iss": given["iss"]}
    answers = await asyncio.gather(*(browser.post(here.back, fields) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [303, 403, 403, 403]
    assert await _sessions(here) == before + 1


async def test_a_code_of_another_browser_is_of_no_use(here: Company) -> None:
    """Injected into one's own way back: it was given for another verifier (PKCE), and nonce."""
    await _linked(here)
    await _linked(here, "mallory")
    here.idp.user = "diana"
    _, stolen = await here.gone()
    here.idp.user = "mallory"
    thief, given = await here.gone()
    answer = await here.brought(thief, given | {"code": stolen["code"]})
    assert (answer.status, "took the code not" in answer.text) == (403, True)


@pytest.mark.parametrize("wrong", ["another", "silent"])
async def test_an_answer_says_whose_it_is(here: Company, wrong: str) -> None:
    """RFC 9207: a provider that says it names itself must do so, and be the one that was asked."""
    await _linked(here)
    here.idp.silent = wrong == "silent"
    browser, given = await here.gone()
    if wrong == "another":
        given["iss"] = "https://evil.example"
    answer = await here.brought(browser, given)
    assert answer.status == 403
    assert (await refusals(here.service))[-1] == "issuer_wrong"


async def test_an_answer_of_another_provider_is_not_taken(here: Company, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    async with serving(folder) as other:
        fields = {"name": "Other", "issuer": other.issuer}
        made = await here.owner.post("/settings/identity", fields)
        other_id = made.headers["Location"].rpartition("/")[2]
        browser, given = await here.gone()
        back = f"/sign-in/callback/{other_id}"
        await browser.get(f"{back}?state=x")
        answer = await browser.post(back, {"code": given["code"], "state": given["state"]})
        assert (answer.status, "Another provider answered" in answer.text) == (403, True)


async def test_who_is_refused_there_is_told_so_here(here: Company) -> None:
    browser, given = await here.gone()
    said = {"state": given["state"], "iss": given["iss"], "error": "access_denied"}
    answer = await here.brought(browser, said)
    assert (answer.status, "let you not" in answer.text) == (403, True)
    twice = await browser.get(f"{here.back}?state=a&state=b")
    assert twice.status == 400


async def test_nobody_comes_in_by_an_e_mail(here: Company) -> None:
    """An account with the very address is somebody else's until it is linked."""
    somebody = await signed_in(here.service, role="owner")
    await here.service.context.pool.execute(
        "UPDATE account SET email = 'diana@example.org' WHERE account_id = $1", somebody.account_id
    )
    for newcomers in ("false", "true"):
        await here.use(enabled="true", newcomers=newcomers)
        answer = await here.brought(*await here.gone())
        assert answer.status == 403, newcomers
    assert (await refusals(here.service)) == ["identity_unknown"] * 2


async def test_newcomers_hold_nothing(here: Company) -> None:
    await here.use(enabled="true", newcomers="true")
    browser, given = await here.gone()
    answer = await here.brought(browser, given)
    assert (answer.status, answer.headers["Location"]) == (303, "/second-factor")
    assert "A second factor for diana@example.org" in (await browser.get("/second-factor")).text
    await browser.post("/second-factor/offer")
    codes = here.service.parts.values[SIGNING_IN].codes
    account_id = await here.service.context.pool.fetchval(
        "SELECT account_id FROM account WHERE email = 'diana@example.org'"
    )
    app = pyotp.TOTP(await codes.offered(account_id) or "")
    code = app.at(here.service.context.clock.now())
    assert (await browser.post("/second-factor/confirm", {"code": code})).status == 303
    assert "You see no devices yet" in (await browser.get("/")).text
    assert (await browser.get("/settings/people")).status == 403
    [state] = [
        each
        for each in await events(here.service, AccountState)
        if each.account_id == account_id and each.keys == [] and each.name == "Diana"
    ][-1:]
    assert state.roles == []
    assert [str(each.provider_id) for each in state.identities] == [here.provider_id]


async def test_an_unverified_address_makes_no_account(here: Company) -> None:
    await here.use(enabled="true", newcomers="true")
    here.idp.spoil = lambda claims: claims | {"email_verified": False}
    answer = await here.brought(*await here.gone())
    assert (answer.status, "did not name an e-mail" in answer.text) == (403, True)


async def test_a_disabled_account_and_a_provider_not_in_use_let_nobody_in(here: Company) -> None:
    somebody = await _linked(here)
    browser, given = await here.gone()
    disabled = f"/settings/people/{somebody.account_id}/disable"
    assert (await here.owner.post(disabled)).status == 303
    assert (await here.brought(browser, given)).status == 403
    browser, given = await here.gone()
    await here.use(enabled="false")
    assert (await here.brought(browser, given)).status == 403
    assert (await browser.post(f"/sign-in/with/{here.provider_id}")).status == 403
    assert "Go on with" not in (await Browser(here.service).get("/sign-in")).text


async def test_keys_are_asked_for_again_when_the_provider_turns_them(here: Company) -> None:
    await _linked(here)
    assert (await here.brought(*await here.gone())).status == 303
    asked = dict(here.idp.asked)
    assert (await here.brought(*await here.gone())).status == 303
    assert here.idp.asked == asked
    assert asked == {"configuration": 1, "keys": 1}


async def test_a_provider_that_does_not_answer_is_said_so(here: Company) -> None:
    metadata = here.idp.issuer
    await here.service.context.pool.execute(
        "UPDATE identity_provider SET issuer = 'http://127.0.0.1:9' WHERE issuer = $1", metadata
    )
    browser = Browser(here.service)
    await browser.get("/sign-in")
    answer = await browser.post(f"/sign-in/with/{here.provider_id}")
    assert (answer.status, "cannot be asked now" in answer.text) == (502, True)


async def test_secrets_of_the_way_are_in_no_event(here: Company) -> None:
    await _linked(here)
    browser, given = await here.gone()
    assert (await here.brought(browser, given)).status == 303
    for event in await events(here.service, AuditRecorded):
        told = event.model_dump_json()
        assert all(secret not in told for secret in (given["code"], given["state"], SECRET))
