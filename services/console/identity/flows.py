"""To an identity provider and back: state, PKCE and nonce, spent once in the browser that began."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from services.console.identity.discovery import Discovery, Metadata
from services.console.identity.exchange import Exchange, Proven, refused
from services.console.identity.providers import Providers
from services.console.sessions import hashed
from services.console.store import providers as store
from services.console.store.providers import Flow, Provider
from shared.db.pool import Pool
from shared.runtime.clock import Clock
from shared.runtime.problems import Problem

__all__ = ["PATIENCE", "Answer", "Flow", "Flows"]

PATIENCE: Final = timedelta(minutes=10)
"""To sign in at the provider."""
_SCOPE = "openid profile email"
_LONGEST = 100


@dataclass(frozen=True)
class Answer:
    """What the provider let the browser bring back (RFC 6749 §4.1.2, RFC 9207)."""

    state: str
    code: str
    issuer: str | None
    error: str | None


class Flows:
    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        providers: Providers,
        discovery: Discovery,
        exchange: Exchange,
    ) -> None:
        self._pool, self._clock, self._providers = pool, clock, providers
        self._discovery, self._exchange = discovery, exchange

    async def begin(
        self,
        provider_id: UUID,
        browser: str,
        following: str,
        *,
        account_id: UUID | None = None,
        link_hash: bytes | None = None,
    ) -> str:
        """The provider's address to send the browser to; `browser` is the secret in its cookie."""
        provider = await self._providers.one(provider_id)
        client = self._providers.client(provider)
        metadata = await self._discovery.metadata(provider.issuer)
        state = secrets.token_urlsafe(32)
        over = self._clock.now() + PATIENCE
        flow = Flow(
            hashed(state), hashed(browser), provider_id, account_id, link_hash, following, over
        )
        await store.begin(self._pool, flow)
        url: str = prepare_grant_uri(
            metadata.authorization_endpoint,
            client.client_id,
            "code",
            redirect_uri=client.redirect_uri,
            scope=_SCOPE,
            state=state,
            nonce=_derived(browser, "nonce", state),
            code_challenge=create_s256_code_challenge(_derived(browser, "verifier", state)),
            code_challenge_method="S256",
        )
        return url

    async def finish(
        self, provider_id: UUID, browser: str, answer: Answer
    ) -> tuple[Provider, Flow, Proven]:
        """Who came back from there; raises Problem, and the state counts no more either way."""
        flow = await store.spend(self._pool, hashed(answer.state[:_LONGEST]), hashed(browser))
        if flow is None or flow.expires_at <= self._clock.now():
            raise _unknown()
        if flow.provider_id != provider_id:
            raise refused("Another provider answered than was asked.", "issuer_wrong")
        provider = await self._providers.one(provider_id)
        client = self._providers.client(provider)
        metadata = await self._discovery.metadata(provider.issuer)
        _check(metadata, answer)
        proven = await self._exchange.redeem(
            metadata,
            client,
            answer.code,
            verifier=_derived(browser, "verifier", answer.state),
            nonce=_derived(browser, "nonce", answer.state),
            now=self._clock.now(),
        )
        return provider, flow, proven

    async def sweep(self) -> bool:
        """Forget those that nobody came back from; whether more may wait."""
        return await store.sweep(self._pool, self._clock.now()) > 0


def _check(metadata: Metadata, answer: Answer) -> None:
    if answer.issuer is None and metadata.names_itself:
        raise refused("It did not say whose answer this is.", "issuer_wrong")
    if answer.issuer is not None and answer.issuer != metadata.issuer:
        raise refused("Another provider answered than was asked.", "issuer_wrong")
    if answer.error is not None or not answer.code:
        raise refused("You did not sign in there, or it let you not.", "provider_said_no")


def _derived(browser: str, what: str, state: str) -> str:
    """Known to who holds the cookie and to us while it is here: nothing of it is kept."""
    text = f"muster oidc 1 {what} {state}".encode()
    made = hmac.digest(browser.encode(), text, hashlib.sha256)
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


def _unknown() -> Problem:
    detail = "This way to the identity provider was not begun here, was used, or took too long."
    return Problem(403, "state_unknown", f"{detail} Nothing was changed: begin again.")
