"""WebAuthn keys: registered and used with the person verified by the key (PIN, finger, face)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import webauthn
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from services.console.store import factors as store
from services.console.store.factors import Passkey
from shared.db.pool import Connection, Pool
from shared.events.base import uuid7
from shared.runtime.clock import Clock
from shared.runtime.passkeys import (
    AssertionRefused,
    Credential,
    RelyingParty,
    credential_id,
    plain,
)
from shared.runtime.problems import Problem

__all__ = ["PATIENCE", "Passkey", "Passkeys"]

PATIENCE = timedelta(minutes=2)
"""From the challenge to its answer."""
MOST = 10
_NAME = "Muster"
_VERIFIED = UserVerificationRequirement.REQUIRED


class Passkeys:
    """The keys of accounts: registered, asked for, and proven."""

    def __init__(self, pool: Pool, clock: Clock, url: str) -> None:
        self._pool, self._clock = pool, clock
        self._party = RelyingParty.at(url)

    async def of(self, account_id: UUID) -> list[Passkey]:
        return await store.keys(self._pool, account_id)

    async def registration(
        self, session_id: UUID, account_id: UUID, name: str, email: str, *, resident: bool = False
    ) -> dict[str, Any]:
        """What the browser needs to make a key; `resident`: one that can be asked for unnamed."""
        known = await store.keys(self._pool, account_id)
        if len(known) >= MOST:
            raise Problem(
                409, "keys_full", f"An account has at most {MOST} keys; remove one first."
            )
        options = webauthn.generate_registration_options(
            rp_id=self._party.host,
            rp_name=_NAME,
            user_id=account_id.bytes,
            user_name=email,
            user_display_name=name,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED
                if resident
                else ResidentKeyRequirement.PREFERRED,
                user_verification=_VERIFIED,
            ),
            exclude_credentials=[PublicKeyCredentialDescriptor(k.credential_id) for k in known],
        )
        await self._remember(session_id, "register", options.challenge)
        return plain(options)

    async def register(
        self, tx: Connection, session_id: UUID, account_id: UUID, name: str, answer: Credential
    ) -> UUID:
        """Keep the key that answered the challenge."""
        challenge = await self._challenge(session_id, "register")
        try:
            verified = webauthn.verify_registration_response(
                credential=dict(answer),
                expected_challenge=challenge,
                expected_rp_id=self._party.host,
                expected_origin=self._party.origin,
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError, TypeError, KeyError):
            raise _refused() from None
        key = Passkey(
            passkey_id=uuid7(),
            credential_id=verified.credential_id,
            public_key=verified.credential_public_key,
            sign_count=verified.sign_count,
            name=name,
            registered_at=self._clock.now(),
            used_at=None,
        )
        if not await store.add_key(tx, account_id, key):
            raise Problem(409, "key_known", "This key is registered already.")
        return key.passkey_id

    async def assertion(self, session_id: UUID, account_id: UUID, purpose: str) -> dict[str, Any]:
        """What the browser needs to have one of the account's keys answer."""
        known = await store.keys(self._pool, account_id)
        if not known:
            raise Problem(409, "no_keys", "No key is registered for this account.")
        options = webauthn.generate_authentication_options(
            rp_id=self._party.host,
            allow_credentials=[PublicKeyCredentialDescriptor(k.credential_id) for k in known],
            user_verification=_VERIFIED,
        )
        await self._remember(session_id, purpose, options.challenge)
        return plain(options)

    async def check(
        self, tx: Connection, session_id: UUID, account_id: UUID, purpose: str, answer: Credential
    ) -> UUID:
        """The key that answered the challenge; raises Problem for every other answer.

        A counter that does not rise may be a copy's: refused by the library.
        """
        challenge = await self._challenge(session_id, purpose)
        key = self._named(await store.keys(self._pool, account_id), answer)
        await self.verify(tx, key, challenge, answer)
        return key.passkey_id

    def open_challenge(self) -> tuple[bytes, dict[str, Any]]:
        """A challenge for whatever key of ours somebody has, and what the browser needs."""
        options = webauthn.generate_authentication_options(
            rp_id=self._party.host, user_verification=_VERIFIED
        )
        return options.challenge, plain(options)

    async def verify(
        self, tx: Connection, key: Passkey, challenge: bytes, answer: Credential
    ) -> None:
        """That this key answered this challenge, with the person verified; raises Problem."""
        try:
            count = self._party.check(
                answer, challenge=challenge, public_key=key.public_key, sign_count=key.sign_count
            )
        except AssertionRefused:
            raise _refused() from None
        if not await store.use_key(tx, key, count, self._clock.now()):
            raise _refused()

    @staticmethod
    def credential_id(answer: Credential) -> bytes:
        """What the answer says which key it is of."""
        try:
            return credential_id(answer)
        except AssertionRefused:
            raise _refused() from None

    def _named(self, known: list[Passkey], answer: Credential) -> Passkey:
        wanted = self.credential_id(answer)
        for key in known:
            if key.credential_id == wanted:
                return key
        raise _refused()

    async def _remember(self, session_id: UUID, purpose: str, challenge: bytes) -> None:
        over = self._clock.now() + PATIENCE
        await store.challenge(self._pool, session_id, purpose, challenge, over)

    async def _challenge(self, session_id: UUID, purpose: str) -> bytes:
        challenge = await store.answered(self._pool, session_id, purpose, self._clock.now())
        if challenge is None:
            raise _refused()
        return challenge


def _refused() -> Problem:
    detail = "The key did not answer as it should, or too late. Nothing was changed: try again."
    return Problem(403, "key_refused", detail)
