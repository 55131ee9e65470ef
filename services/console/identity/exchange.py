"""Turning a code into who somebody is: the token endpoint, and what makes an ID token count."""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote_plus

import orjson
from authlib.oauth2.rfc6749.parameters import prepare_token_request
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import ClaimError, JoseError, SecurityWarning

from services.console.identity.discovery import LIMITS, Discovery, Metadata
from shared.runtime.outbound import Outbound, OutboundFailed
from shared.runtime.problems import Problem

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
"""By a key that only the provider has; never `none`, never a shared secret (RFC 8725)."""
_LEEWAY = 60
"""Seconds that its clock and ours may differ."""
_MOST = 32 * 1024
_SUBJECT = 255
_OK = 200


@dataclass(frozen=True)
class Client:
    """What Muster is at the provider."""

    client_id: str
    secret: str
    redirect_uri: str


@dataclass(frozen=True)
class Proven:
    """Who somebody is, as their provider says; only issuer and subject name anybody."""

    issuer: str
    subject: str
    name: str | None
    email: str | None


class Exchange:
    def __init__(self, outbound: Outbound, discovery: Discovery) -> None:
        self._outbound, self._discovery = outbound, discovery

    async def redeem(
        self,
        metadata: Metadata,
        client: Client,
        code: str,
        *,
        verifier: str,
        nonce: str,
        now: datetime,
    ) -> Proven:
        """Who brought this code; raises Problem."""
        answer = await self._ask(metadata, client, code, verifier)
        token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(token, str) or len(token) > _MOST:
            raise refused("It sent no ID token.")
        keys = await self._discovery.keys(metadata, _kid(token))
        try:
            with warnings.catch_warnings():
                # "EdDSA" got a better name lately (RFC 9864); providers still use the old one.
                warnings.simplefilter("ignore", SecurityWarning)
                read = jwt.decode(token, keys, algorithms=ALGORITHMS)
            CodeIDToken(
                read.claims,
                read.header,
                options={
                    "iss": {"essential": True, "value": metadata.issuer},
                    "aud": {"essential": True, "value": client.client_id},
                },
                params={
                    "client_id": client.client_id,
                    "nonce": nonce,
                    "access_token": access_token,
                },
            ).validate(now=int(now.timestamp()), leeway=_LEEWAY)
        except (JoseError, ValueError, TypeError) as error:
            raise refused(f"Its ID token does not count ({_fault(error)}).") from None
        return _proven(metadata, read.claims)

    async def _ask(
        self, metadata: Metadata, client: Client, code: str, verifier: str
    ) -> dict[str, Any]:
        values = {"code": code, "redirect_uri": client.redirect_uri, "code_verifier": verifier}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if metadata.basic:
            pair = f"{quote_plus(client.client_id)}:{quote_plus(client.secret)}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        else:
            values |= {"client_id": client.client_id, "client_secret": client.secret}
        body = prepare_token_request("authorization_code", **values).encode()
        try:
            reply = await self._outbound.request(
                "POST", metadata.token_endpoint, headers=headers, data=body, limits=LIMITS
            )
            answer = orjson.loads(reply.body)
        except OutboundFailed as failed:
            raise refused(str(failed), "provider_failed", 502) from None
        except ValueError:
            raise refused("It answered no JSON.", "provider_failed", 502) from None
        if reply.status != _OK or not isinstance(answer, dict):
            raise refused(f"It took the code not ({_error(answer)}).")
        return answer


def _kid(token: str) -> str | None:
    """The name of its key; nothing else of the header is looked at before the signature counts."""
    head = token.partition(".")[0]
    try:
        header = orjson.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
        kid = header.get("kid")
    except (ValueError, AttributeError):
        raise refused("Its ID token is not readable.") from None
    return kid if isinstance(kid, str) else None


def _proven(metadata: Metadata, claims: Mapping[str, Any]) -> Proven:
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT or "\0" in subject:
        raise refused("It names nobody.")
    verified = claims.get("email_verified") is not False
    return Proven(
        issuer=metadata.issuer,
        subject=subject,
        name=_text(claims.get("name")),
        email=_text(claims.get("email")) if verified else None,
    )


def _fault(error: Exception) -> str:
    """In the library's words, which hold names of claims and no values."""
    claim = error.claim if isinstance(error, ClaimError) else None
    word = error.error if isinstance(error, JoseError) else "unreadable"
    return f"{word}: {claim}" if claim else word


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value and "\0" not in value else None


def _error(answer: object) -> str:
    """Its own short word for it (RFC 6749 §5.2), and no text of a stranger's choosing."""
    word = str(answer.get("error", "")) if isinstance(answer, dict) else ""
    return word if re.fullmatch(r"[a-z_]{1,40}", word) else "?"


def refused(why: str, code: str = "provider_refused", status: int = 403) -> Problem:
    """What people read; nothing of the answer itself is in it."""
    return Problem(status, code, f"The identity provider did not say who you are. {why}")
