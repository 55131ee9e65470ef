"""Access tokens: Ed25519 JWTs that every service verifies offline.

Two kinds, told apart by `typ` (RFC 8725 §3.11): a person's or API client's access token, which only
the console signs, and a service's call to one other service.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from shared.events.registry import SERVICES
from shared.runtime.clock import Clock
from shared.runtime.latest import Latest

ISSUER = "console"
"""The only service whose tokens speak for people."""
ACCESS = "at+jwt"
INTERNAL = "muster-internal+jwt"
INTERNAL_PERMISSION = "internal"
MAX_LIFETIME = timedelta(minutes=15)
_LEEWAY = timedelta(seconds=30)
_MAX_LENGTH = 8192
_REMEMBERED = 4096
"""Tokens: more bearers than one process serves in a quarter of an hour."""
_KID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CLAIMS = ["iss", "sub", "aud", "iat", "exp", "jti", "permissions"]


class TokenRefused(Exception):  # noqa: N818 (a refusal, not a fault of ours)
    """Why a token does not count; safe to tell its bearer."""


@dataclass(frozen=True)
class Claims:
    issuer: str
    actor: str
    permissions: frozenset[str]
    """On all devices."""
    groups: Mapping[UUID, frozenset[str]]
    """On the devices of a static group only."""
    via: str | None
    """The session or API token it was made from; revoking that ends it."""
    source: str | None
    """The address of the person, where the console asks for them."""
    token_id: str
    expires_at: datetime


@dataclass(frozen=True)
class _Proven:
    """What was in a token whose signature was good; `named` are its issuer and key id."""

    kind: str
    named: tuple[str, str]
    key: Ed25519PublicKey
    issued: int
    expires: int
    claims: Claims


class Signer:
    """Signs as one service, with its newest key."""

    def __init__(self, service: str, key: Ed25519PrivateKey, kid: str, clock: Clock) -> None:
        self._service, self._key, self._kid, self._clock = service, key, kid, clock

    def access(
        self,
        actor: str,
        audience: str,
        permissions: Sequence[str],
        lifetime: timedelta,
        *,
        groups: Mapping[UUID, Sequence[str]] | None = None,
        via: str | None = None,
        source: str | None = None,
    ) -> str:
        """A person's token for one service; at most fifteen minutes, signed by the console."""
        more: dict[str, Any] = {"via": via, "source": source}
        if groups:
            more["groups"] = {str(group): list(held) for group, held in groups.items()}
        more = {name: value for name, value in more.items() if value is not None}
        return self._sign(ACCESS, actor, audience, permissions, lifetime, more)

    def internal(self, audience: str) -> str:
        """The right of this service to call `audience`, for two minutes."""
        actor = f"service:{self._service}"
        lifetime = timedelta(minutes=2)
        return self._sign(INTERNAL, actor, audience, [INTERNAL_PERMISSION], lifetime, {})

    def _sign(
        self,
        kind: str,
        actor: str,
        audience: str,
        permissions: Sequence[str],
        lifetime: timedelta,
        more: dict[str, Any],
    ) -> str:
        if not timedelta() < lifetime <= MAX_LIFETIME:
            raise ValueError("a token lives for at most fifteen minutes")
        if audience not in SERVICES:
            raise ValueError(f"no service is called {audience}")
        now = self._clock.now()
        claims = {
            "iss": self._service,
            "sub": actor,
            "aud": audience,
            "iat": int(now.timestamp()),
            "exp": int((now + lifetime).timestamp()),
            "jti": uuid4().hex,
            "permissions": list(permissions),
            **more,
        }
        return jwt.encode(claims, self._key, "EdDSA", headers={"kid": self._kid, "typ": kind})


class Verifier:
    """Verifies tokens meant for one service with the public keys that lie in `<keys_dir>/public`.

    Files are named `<service>-<kid>.token.pub`; a new key is found when its kid first appears, a
    key whose file is gone counts no more. A signature that was proven is not verified again while
    its key stays: who sends many requests sends the same token. Whether it is still in time is
    looked at each time.
    """

    def __init__(self, public: Path, audience: str, clock: Clock) -> None:
        self._public, self._audience, self._clock = public, audience, clock
        self._keys: dict[str, tuple[int, Ed25519PublicKey]] = {}
        self._proven: Latest[bytes, _Proven] = Latest(_REMEMBERED)

    def access(self, token: str) -> Claims:
        return self._verify(token, ACCESS, (ISSUER,))

    def internal(self, token: str, callers: Sequence[str]) -> Claims:
        claims = self._verify(token, INTERNAL, callers)
        if INTERNAL_PERMISSION not in claims.permissions:
            raise TokenRefused("The token is not meant for internal routes.")
        return claims

    def _verify(self, token: str, kind: str, issuers: Sequence[str]) -> Claims:
        if not token.isascii():
            raise TokenRefused("The token is not valid.")
        digest = hashlib.sha256(token.encode()).digest()
        proven = self._proven.get(digest)
        if proven is None or proven.kind != kind or self._key(*proven.named) is not proven.key:
            proven = self._prove(token, kind, issuers)
            self._proven[digest] = proven
        if proven.named[0] not in issuers:
            raise TokenRefused("The token's issuer may not call this.")
        self._in_time(proven)
        return proven.claims

    def _prove(self, token: str, kind: str, issuers: Sequence[str]) -> _Proven:
        issuer, kid = _announced(token, kind)
        if issuer not in issuers:
            raise TokenRefused("The token's issuer may not call this.")
        key = self._key(issuer, kid)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=["EdDSA"],
                audience=self._audience,
                issuer=issuer,
                # The clock is ours to inject: the library only knows the system's.
                options={"require": _CLAIMS, "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidAudienceError:
            raise TokenRefused("The token is meant for another service.") from None
        except jwt.PyJWTError:
            raise TokenRefused("The token is not valid.") from None
        return _read(kind, (issuer, kid), key, claims)

    def _in_time(self, proven: _Proven) -> None:
        """Refuse what is over, not yet begun, or was signed for longer than any token may live."""
        now = self._clock.now().timestamp()
        if now >= proven.expires:
            raise TokenRefused("The token has expired.")
        if proven.issued > now + _LEEWAY.total_seconds():
            raise TokenRefused("The token is not valid yet.")
        if proven.expires - proven.issued > MAX_LIFETIME.total_seconds():
            raise TokenRefused("The token lives too long.")

    def _key(self, issuer: str, kid: str) -> Ed25519PublicKey:
        path = self._public / f"{issuer}-{kid}.token.pub"
        try:
            changed = path.stat().st_mtime_ns
            known = self._keys.get(path.name)
            if known is None or known[0] != changed:
                key = load_pem_public_key(path.read_bytes())
                if not isinstance(key, Ed25519PublicKey):
                    raise TokenRefused("The token's key is not known.")
                known = self._keys[path.name] = (changed, key)
        except (OSError, ValueError):
            raise TokenRefused("The token's key is not known.") from None
        return known[1]


def _read(
    kind: str, named: tuple[str, str], key: Ed25519PublicKey, claims: dict[str, Any]
) -> _Proven:
    """The claims in our own form; refuses what is of another."""
    issued, expires = claims["iat"], claims["exp"]
    if not (isinstance(issued, int) and isinstance(expires, int)):
        raise TokenRefused("The token is not valid.")
    try:
        expires_at = datetime.fromtimestamp(expires, UTC)
    except (ValueError, OverflowError, OSError):
        raise TokenRefused("The token is not valid.") from None
    read = Claims(
        issuer=named[0],
        actor=claims["sub"],
        permissions=_words(claims["permissions"]),
        groups=_groups(claims.get("groups", {})),
        via=_word(claims.get("via")),
        source=_word(claims.get("source")),
        token_id=claims["jti"],
        expires_at=expires_at,
    )
    return _Proven(kind, named, key, issued, expires, read)


def _words(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise TokenRefused("The token is not valid.")
    return frozenset(value)


def _word(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TokenRefused("The token is not valid.")
    return value


def _groups(value: object) -> dict[UUID, frozenset[str]]:
    if not isinstance(value, dict):
        raise TokenRefused("The token is not valid.")
    try:
        return {UUID(group): _words(held) for group, held in value.items()}
    except ValueError:
        raise TokenRefused("The token is not valid.") from None


def _announced(token: str, kind: str) -> tuple[str, str]:
    """The issuer and key id a token names, before anything of it is believed."""
    if not token:
        raise TokenRefused("Send an access token as `Authorization: Bearer …`.")
    if len(token) > _MAX_LENGTH:
        raise TokenRefused("The token is not valid.")
    try:
        header = jwt.get_unverified_header(token)
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except jwt.PyJWTError:
        raise TokenRefused("The token is not valid.") from None
    kid = header.get("kid")
    if header.get("alg") != "EdDSA" or header.get("typ") != kind:
        raise TokenRefused("The token is of another kind.")
    if not isinstance(kid, str) or not _KID.fullmatch(kid) or issuer not in SERVICES:
        raise TokenRefused("The token's key is not known.")
    return issuer, kid
