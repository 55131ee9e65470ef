"""Every way a token can be wrong, each refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from shared.runtime import tokens
from shared.runtime.clock import FixedClock
from shared.runtime.http import Caller
from shared.runtime.problems import Problem
from shared.runtime.tokens import Claims, Signer, TokenRefused, Verifier
from shared.sealed import ensure_service_keys, rotate_service_keys, token_key
from shared.sealed.keys import find

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TEN = timedelta(minutes=10)


class Bench:
    """A console that signs and an inventory that verifies."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, FixedClock(NOW)
        for name in ("console", "enrollment"):
            ensure_service_keys(folder, name)
        self.console, self.enrollment = self.signer("console"), self.signer("enrollment")
        self.verifier = Verifier(folder / "public", "inventory", self.clock)

    def signer(self, service: str) -> Signer:
        kid, key = token_key(self.folder / service)
        return Signer(service, key, kid, self.clock)

    def forged(self, *, claims: dict[str, Any], headers: dict[str, Any], key: Any = None) -> str:
        """The console's token with some of it changed; signed by its key unless told otherwise."""
        kid, own = token_key(self.folder / "console")
        base: dict[str, Any] = {
            "iss": "console",
            "sub": "ada",
            "aud": "inventory",
            "iat": int(NOW.timestamp()),
            "exp": int((NOW + TEN).timestamp()),
            "jti": "1",
            "permissions": ["*"],
        }
        merged = {name: value for name, value in {**base, **claims}.items() if value is not None}
        head = {"kid": kid, "typ": "at+jwt", **headers}
        return jwt.encode(merged, key or own, head.pop("alg", "EdDSA"), headers=head)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_good_token_says_who_and_what(bench: Bench) -> None:
    claims = bench.verifier.access(bench.console.access("ada", "inventory", ["a.b"], TEN))
    may = frozenset({"a.b"})
    assert claims == Claims("console", "ada", may, {}, None, None, claims.token_id, NOW + TEN)
    assert bench.verifier.access(bench.forged(claims={}, headers={})).actor == "ada"


def test_it_ends_when_it_says(bench: Bench) -> None:
    token = bench.console.access("ada", "inventory", ["*"], TEN)
    bench.clock.advance(TEN - timedelta(seconds=1))
    bench.verifier.access(token)
    bench.clock.advance(timedelta(seconds=1))
    with pytest.raises(TokenRefused, match="expired"):
        bench.verifier.access(token)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"aud": "compliance"}, "another service"),
        ({"aud": None}, "not valid"),
        ({"exp": int((NOW + timedelta(hours=1)).timestamp())}, "too long"),
        ({"iat": int((NOW + timedelta(minutes=2)).timestamp())}, "not valid yet"),
        ({"exp": None}, "not valid"),
        ({"permissions": None}, "not valid"),
        ({"permissions": "*"}, "not valid"),
        ({"iss": "enrollment"}, "may not call"),
        ({"iss": "../console"}, "not known"),
    ],
)
def test_claims_that_do_not_count(bench: Bench, claims: dict[str, Any], why: str) -> None:
    with pytest.raises(TokenRefused, match=why):
        bench.verifier.access(bench.forged(claims=claims, headers={}))


@pytest.mark.parametrize("kid", ["../../etc/passwd", "", "a/b", "x" * 65, 7, None])
def test_a_key_id_is_no_path(bench: Bench, kid: Any) -> None:
    good = bench.console.access("ada", "inventory", ["*"], TEN)
    head, body, signature = good.split(".")
    header = jwt.get_unverified_header(good) | {"kid": kid}
    forged = jwt.utils.base64url_encode(json.dumps(header).encode()).decode()
    with pytest.raises(TokenRefused):
        bench.verifier.access(f"{forged}.{body}.{signature}")
    assert head != forged


def test_a_foreign_key_is_refused(bench: Bench) -> None:
    token = bench.forged(claims={}, headers={}, key=Ed25519PrivateKey.generate())
    with pytest.raises(TokenRefused, match="not valid"):
        bench.verifier.access(token)


def test_no_signature_is_refused(bench: Bench) -> None:
    kid, _ = token_key(bench.folder / "console")
    header = {"alg": "none", "kid": kid, "typ": "at+jwt"}
    body = bench.forged(claims={}, headers={}).split(".")[1]
    unsigned = jwt.utils.base64url_encode(json.dumps(header).encode()).decode()
    with pytest.raises(TokenRefused, match="another kind"):
        bench.verifier.access(f"{unsigned}.{body}.")


def test_the_public_key_is_no_shared_secret(bench: Bench) -> None:
    """Signing with HS256 and the published key must not pass (RFC 8725 §2.1)."""
    _, key = token_key(bench.folder / "console")
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    token = bench.forged(claims={}, headers={"alg": "HS256"}, key=raw)
    with pytest.raises(TokenRefused, match="another kind"):
        bench.verifier.access(token)


def test_kinds_of_token_are_not_confused(bench: Bench) -> None:
    internal = bench.enrollment.internal("inventory")
    assert bench.verifier.internal(internal, ("enrollment",)).actor == "service:enrollment"
    with pytest.raises(TokenRefused, match="may not call"):
        bench.verifier.internal(internal, ("console",))
    with pytest.raises(TokenRefused, match="another kind"):
        bench.verifier.access(internal)
    access = bench.console.access("ada", "inventory", ["internal", "*"], TEN)
    with pytest.raises(TokenRefused, match="another kind"):
        bench.verifier.internal(access, ("console",))
    with pytest.raises(TokenRefused, match="not meant"):
        bench.verifier.internal(
            bench.forged(claims={}, headers={"typ": "muster-internal+jwt"}), ("console",)
        )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: "",
        lambda _: "rubbish",
        lambda _: "a.b.c",
        lambda token: token[:-4],
        lambda token: token + "A" * 9000,
        lambda token: token.replace(".", "..", 1),
    ],
)
def test_rubbish_is_refused(bench: Bench, spoil: Callable[[str], str]) -> None:
    with pytest.raises(TokenRefused):
        bench.verifier.access(spoil(bench.console.access("ada", "inventory", ["*"], TEN)))


def test_two_keys_count_and_a_removed_one_does_not(bench: Bench) -> None:
    old_kid, old_key = token_key(bench.folder / "console")
    rotate_service_keys(bench.folder, "console")
    [new_kid] = set(find(bench.folder / "console", ".token.key")) - {old_kid}
    new_key = load_pem_private_key(
        (bench.folder / "console" / f"{new_kid}.token.key").read_bytes(), None
    )
    old = bench.forged(claims={}, headers={"kid": old_kid}, key=old_key)
    new = bench.forged(claims={}, headers={"kid": new_kid}, key=new_key)
    bench.verifier.access(old)
    bench.verifier.access(new)
    (bench.folder / "public" / f"console-{old_kid}.token.pub").unlink()
    with pytest.raises(TokenRefused, match="not known"):
        bench.verifier.access(old)
    bench.verifier.access(new)


@pytest.mark.parametrize("minutes", [0, -1, 16])
def test_no_token_is_signed_for_longer_than_it_may_live(bench: Bench, minutes: int) -> None:
    with pytest.raises(ValueError, match="fifteen"):
        bench.console.access("ada", "inventory", ["*"], timedelta(minutes=minutes))


def test_a_proven_signature_is_not_verified_again_while_its_key_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = bench.console.access("ada", "inventory", ["*"], TEN)
    proven: list[str] = []
    decode = jwt.decode

    def noting(token: str, *args: Any, **options: Any) -> Any:
        proven.append(token)
        return decode(token, *args, **options)

    monkeypatch.setattr(jwt, "decode", noting)
    first = bench.verifier.access(token)
    once = len(proven)
    assert bench.verifier.access(token) == first
    assert len(proven) == once
    with pytest.raises(TokenRefused, match="not valid"):
        bench.verifier.access(token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB"))
    [published] = (bench.folder / "public").glob("console-*.token.pub")
    published.unlink()
    with pytest.raises(TokenRefused, match="not known"):
        bench.verifier.access(token)


def test_only_so_many_proven_tokens_are_remembered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_REMEMBERED", 3)
    verifier = Verifier(bench.folder / "public", "inventory", bench.clock)
    for _ in range(10):
        verifier.access(bench.console.access("ada", "inventory", ["*"], TEN))
    assert len(verifier._proven) == 3


def test_bytes_that_are_no_text_are_refused(bench: Bench) -> None:
    with pytest.raises(TokenRefused, match="not valid"):
        bench.verifier.access("\udc80\udcff")


def test_groups_and_where_a_token_is_from_travel_in_it(bench: Bench) -> None:
    group = uuid4()
    claims = bench.verifier.access(
        bench.console.access(
            "ada",
            "inventory",
            ["a.b"],
            TEN,
            groups={group: ["c.d", "e.f"]},
            via="session:1",
            source="192.0.2.1",
        )
    )
    assert claims.permissions == {"a.b"}
    assert claims.groups == {group: {"c.d", "e.f"}}
    assert (claims.via, claims.source) == ("session:1", "192.0.2.1")
    plain = bench.verifier.access(bench.console.access("ada", "inventory", [], TEN))
    assert (plain.groups, plain.via, plain.source) == ({}, None, None)


@pytest.mark.parametrize(
    "claims",
    [
        {"groups": ["a.b"]},
        {"groups": {"everything": ["a.b"]}},
        {"groups": {str(uuid4()): "a.b"}},
        {"groups": {str(uuid4()): [1]}},
        {"via": 1},
        {"source": ["192.0.2.1"]},
        {"exp": 10**18},
    ],
)
def test_a_scope_of_another_form_is_refused(bench: Bench, claims: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused, match="not valid"):
        bench.verifier.access(bench.forged(claims=claims, headers={}))


def test_a_permission_on_a_group_is_none_on_all_devices() -> None:
    group, other = sorted([uuid4(), uuid4()])
    held = {group: frozenset({"c.d"}), other: frozenset({"*"})}
    who = Caller("ada", frozenset({"a.b"}), None, held)
    assert who.reach("a.b") is None
    assert who.reach("c.d") == [group, other]
    assert who.reach("e.f") == [other]
    who.require("a.b")
    with pytest.raises(Problem, match="on all devices"):
        who.require("c.d")
    nobody = Caller("bob", frozenset(), None, {group: frozenset({"c.d"})})
    for refused in (nobody.reach, nobody.require):
        with pytest.raises(Problem, match=r"needs the permission e\.f"):
            refused("e.f")
