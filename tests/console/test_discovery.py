"""An issuer is asked rarely, and what it says must be its own."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from services.console.identity.discovery import Discovery
from shared.runtime.outbound import OutboundFailed, Reply
from shared.runtime.problems import Problem

ISSUER = "https://idp.example"
SAID = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks",
}


class Answers:
    """Stands for the outbound client: counts what is asked, and says what it was told to."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {
            f"{ISSUER}/.well-known/openid-configuration": dict(SAID),
            f"{ISSUER}/jwks": {"keys": [_key("first")]},
        }
        self.asked: list[str] = []
        self.now = 1000.0

    def checked(self, url: str) -> URL:
        if not url.startswith("https://"):
            raise OutboundFailed("url_refused", "no")
        return URL(url)

    async def request(self, _method: str, url: str, **_more: Any) -> Reply:
        self.asked.append(url.removeprefix(ISSUER))
        await asyncio.sleep(0)
        said = self.said.get(url)
        if said is None:
            raise OutboundFailed("unreachable", "idp.example cannot be reached.")
        body = said if isinstance(said, bytes) else orjson.dumps(said)
        return Reply(200, CIMultiDictProxy(CIMultiDict[str]()), body)

    @property
    def discovery(self) -> Discovery:
        return Discovery(self, ticks=lambda: self.now)  # type: ignore[arg-type]


def _key(kid: str) -> dict[str, Any]:
    return dict(ECKey.generate_key("P-256", {"kid": kid}).as_dict(private=False))


async def test_one_asks_for_all_and_remembers() -> None:
    answers = Answers()
    discovery = answers.discovery
    found = await asyncio.gather(*(discovery.metadata(ISSUER) for _ in range(5)))
    assert {each.token_endpoint for each in found} == {f"{ISSUER}/token"}
    await asyncio.gather(*(discovery.keys(found[0], "first") for _ in range(5)))
    assert answers.asked == ["/.well-known/openid-configuration", "/jwks"]
    answers.now += 601
    await discovery.metadata(ISSUER)
    await discovery.keys(found[0], "first")
    assert len(answers.asked) == 4


async def test_an_unknown_key_is_looked_for_once_a_minute() -> None:
    answers = Answers()
    discovery = answers.discovery
    metadata = await discovery.metadata(ISSUER)
    await discovery.keys(metadata, "first")
    answers.said[f"{ISSUER}/jwks"] = {"keys": [_key("first"), _key("second")]}
    for _ in range(3):
        assert [key.kid for key in await discovery.keys(metadata, "second")] == ["first"]
    assert answers.asked.count("/jwks") == 1
    answers.now += 61
    for _ in range(3):
        found = await discovery.keys(metadata, "second")
        assert [key.kid for key in found] == ["first", "second"]
        await discovery.keys(metadata, "never seen")
    assert answers.asked.count("/jwks") == 2


async def test_that_nobody_answers_is_remembered_for_a_while() -> None:
    answers = Answers()
    answers.said.clear()
    discovery = answers.discovery
    for _ in range(3):
        with pytest.raises(Problem, match="cannot be reached"):
            await discovery.metadata(ISSUER)
    assert len(answers.asked) == 1
    answers.said[f"{ISSUER}/.well-known/openid-configuration"] = dict(SAID)
    answers.now += 16
    assert (await discovery.metadata(ISSUER)).issuer == ISSUER


@pytest.mark.parametrize(
    "said",
    [
        SAID | {"issuer": "https://evil.example"},
        SAID | {"issuer": f"{ISSUER}/"},
        SAID | {"token_endpoint": "http://idp.example/token"},
        SAID | {"authorization_endpoint": "javascript:alert(1)"},
        SAID | {"jwks_uri": None},
        {name: value for name, value in SAID.items() if name != "jwks_uri"},
        [SAID],
        b"<html>",
        b"",
    ],
)
async def test_what_cannot_be_is_refused(said: object) -> None:
    answers = Answers()
    answers.said[f"{ISSUER}/.well-known/openid-configuration"] = said
    with pytest.raises(Problem):
        await answers.discovery.metadata(ISSUER)


async def test_only_keys_that_can_prove_something_are_taken() -> None:
    """No shared secret, none that is short, none for encryption, and no rubbish among them."""
    answers = Answers()
    short = {"kty": "RSA", "kid": "short", "e": "AQAB", "n": "x" * 171}
    secret = OctKey.generate_key(256, {"kid": "secret"}).as_dict(private=True)
    for_encryption = RSAKey.generate_key(2048, {"kid": "enc", "use": "enc"}).as_dict(private=False)
    rubbish = [{"kty": "EC", "kid": "rubbish", "crv": "P-999"}, {"kty": ["EC"]}, "x"]
    answers.said[f"{ISSUER}/jwks"] = {
        "keys": [short, secret, for_encryption, *rubbish, _key("good")]
    }
    discovery = answers.discovery
    found = await discovery.keys(await discovery.metadata(ISSUER), "good")
    assert [key.kid for key in found] == ["good"]


@pytest.mark.parametrize("said", [{"keys": None}, {"keys": 1}, {}, b"[]"])
async def test_keys_that_are_none_are_refused(said: object) -> None:
    answers = Answers()
    answers.said[f"{ISSUER}/jwks"] = said
    discovery = answers.discovery
    with pytest.raises(Problem):
        await discovery.keys(await discovery.metadata(ISSUER), "x")
