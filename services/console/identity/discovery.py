"""What an identity provider says of itself: its addresses and keys (OpenID Connect Discovery)."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, KeySet, OKPKey, RSAKey

from shared.runtime.outbound import Limits, Outbound, OutboundFailed
from shared.runtime.problems import Problem

PATH: Final = "/.well-known/openid-configuration"
LIMITS: Final = Limits(connect=5.0, total=10.0, size=256 * 1024)
_KEEP, _KEEP_FAILED, _AGAIN = 600.0, 15.0, 60.0
"""Seconds: what was learned; that nothing was; between looks for a key that is not there."""
_MOST_KEYS = 50
_SMALLEST_RSA = 2048
_OK = 200


@dataclass(frozen=True)
class Metadata:
    """Where to go and whom to ask, as the issuer itself says it."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    basic: bool
    """Whether the client's secret goes into the header (RFC 6749 §2.3.1), else into the body."""
    names_itself: bool
    """Whether each of its answers must say whose it is (RFC 9207 §3)."""


class Discovery:
    """Asks an issuer rarely: remembers in this process, and one asks for all."""

    def __init__(self, outbound: Outbound, *, ticks: Callable[[], float] = time.monotonic) -> None:
        self._outbound, self._ticks = outbound, ticks
        self._learned: dict[str, tuple[float, Metadata | KeySet | Problem]] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def metadata(self, issuer: str) -> Metadata:
        """Raises Problem (502) when the issuer does not say, or says what cannot be."""
        name = f"issuer {issuer}"
        async with self._turns[name]:
            found = self._remembered(name)
            if found is None:
                address = issuer.rstrip("/") + PATH
                found = await self._learn(name, address, lambda said: self._metadata(issuer, said))
        if not isinstance(found, Metadata):
            raise _no_answer() if not isinstance(found, Problem) else found
        return found

    async def keys(self, metadata: Metadata, kid: str | None) -> KeySet:
        """Its keys; asked for anew when none has this name, at most once a minute."""
        name = f"keys {metadata.jwks_uri}"
        async with self._turns[name]:
            found = self._remembered(name, kid)
            if found is None:
                found = await self._learn(name, metadata.jwks_uri, _keys)
        if not isinstance(found, KeySet):
            raise _no_answer() if not isinstance(found, Problem) else found
        return found

    def _remembered(self, name: str, kid: str | None = None) -> Metadata | KeySet | Problem | None:
        """What was learned, while it counts."""
        at, found = self._learned.get(name, (0.0, None))
        age = self._ticks() - at
        keep = _KEEP_FAILED if isinstance(found, Problem) else _KEEP
        if isinstance(found, KeySet) and kid is not None and all(k.kid != kid for k in found):
            keep = _AGAIN
        return found if age <= keep else None

    async def _learn(
        self, name: str, address: str, read: Callable[[dict[str, Any]], Metadata | KeySet]
    ) -> Metadata | KeySet | Problem:
        found: Metadata | KeySet | Problem
        try:
            reply = await self._outbound.request("GET", address, limits=LIMITS)
            found = read(_object(reply.status, reply.body))
        except OutboundFailed as failed:
            found = _no_answer(str(failed))
        except (ValueError, KeyError, TypeError, JoseError):
            found = _no_answer()
        self._learned[name] = (self._ticks(), found)
        return found

    def _metadata(self, issuer: str, said: Mapping[str, Any]) -> Metadata:
        """Whoever answers at an issuer's address must say that it is this issuer (§4.3)."""
        if said["issuer"] != issuer:
            raise ValueError("another issuer")
        addresses = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        found = {name: str(self._outbound.checked(str(said[name]))) for name in addresses}
        methods = said.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return Metadata(
            issuer=issuer,
            basic="client_secret_basic" in methods,
            names_itself=said.get("authorization_response_iss_parameter_supported") is True,
            **found,
        )


def _object(status: int, body: bytes) -> dict[str, Any]:
    said = orjson.loads(body) if status == _OK else None
    if not isinstance(said, dict):
        raise TypeError("no object")
    return said


def _keys(said: Mapping[str, Any]) -> KeySet:
    """Public keys to verify with; a secret key (`oct`) among them is no key of ours (RFC 8725)."""
    kinds: tuple[type[RSAKey | ECKey | OKPKey], ...] = (RSAKey, ECKey, OKPKey)
    keys = []
    for each in said["keys"][:_MOST_KEYS]:
        if not isinstance(each, dict) or each.get("use") == "enc":
            continue
        if str(each.get("kty")) not in {kind.key_type for kind in kinds}:
            continue
        try:
            with warnings.catch_warnings():
                # Of keys too short, which are left out below.
                warnings.simplefilter("ignore", SecurityWarning)
                key = JWKRegistry.import_key(each)
        except (JoseError, ValueError, KeyError, TypeError):
            continue
        if not isinstance(key, RSAKey) or key.public_key.key_size >= _SMALLEST_RSA:
            keys.append(key)
    return KeySet(keys)


def _no_answer(why: str = "It did not answer as a provider should.") -> Problem:
    detail = f"The identity provider cannot be asked now. {why}"
    return Problem(502, "provider_failed", detail)
