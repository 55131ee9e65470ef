"""WebAuthn assertions over digests that this service works out itself (security.md, The guard).

Neither the console nor a session can make one: it is the key that signs, with its person verified.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import webauthn
from webauthn.helpers import bytes_to_base64url
from webauthn.helpers.structs import PublicKeyCredentialDescriptor, UserVerificationRequirement

from services.command_queue.store.approvals import Approval
from services.command_queue.store.approvers import Key
from shared.runtime.passkeys import AssertionRefused, Credential, RelyingParty, credential_id, plain

__all__ = ["AssertionRefused", "Assertions", "Credential", "digest_of", "signed_parts"]

_SECONDS = 120


def digest_of(purpose: str, subject: Mapping[str, Any]) -> bytes:
    """SHA-256 of a purpose and what it is about, written in one way only."""
    written = orjson.dumps(
        {"muster": purpose, "subject": subject},
        option=orjson.OPT_SORT_KEYS,
        default=str,
    )
    return hashlib.sha256(written).digest()


class Assertions:
    """What approvers' keys are asked, and answer."""

    def __init__(self, console_url: str) -> None:
        self._party = RelyingParty.at(console_url)

    def options(self, digest: bytes, keys: Sequence[Key]) -> dict[str, Any]:
        """What the browser needs to have one of the keys sign the digest."""
        options = webauthn.generate_authentication_options(
            rp_id=self._party.host,
            challenge=digest,
            timeout=_SECONDS * 1000,
            allow_credentials=[PublicKeyCredentialDescriptor(one.credential_id) for one in keys],
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return plain(options)

    def check(self, digest: bytes, keys: Sequence[Key], answer: Credential) -> tuple[Key, int]:
        """The key that signed, and its counter; raises AssertionRefused for every other answer."""
        key = _named(keys, answer)
        count = self._party.check(
            answer, challenge=digest, public_key=key.public_key, sign_count=key.sign_count
        )
        return key, count

    def holds(self, digest: bytes, keys: Sequence[Key], kept: Approval) -> bool:
        """Whether the signature that was kept is one of these keys' over this digest, still."""
        answer = {
            "id": _text(kept.credential_id),
            "rawId": _text(kept.credential_id),
            "type": "public-key",
            "response": {
                "clientDataJSON": _text(kept.client_data),
                "authenticatorData": _text(kept.authenticator_data),
                "signature": _text(kept.signature),
            },
        }
        try:
            key = _named(keys, answer)
            # The counter was compared when the answer came: it has gone on since.
            self._party.check(answer, challenge=digest, public_key=key.public_key, sign_count=0)
        except AssertionRefused:
            return False
        return True


def signed_parts(answer: Credential) -> tuple[bytes, bytes, bytes]:
    """Client data, authenticator data and signature of an answer that was checked."""
    response = answer["response"]
    return (
        webauthn.base64url_to_bytes(response["clientDataJSON"]),
        webauthn.base64url_to_bytes(response["authenticatorData"]),
        webauthn.base64url_to_bytes(response["signature"]),
    )


def _text(data: bytes) -> str:
    return bytes_to_base64url(data)


def _named(keys: Sequence[Key], answer: Credential) -> Key:
    wanted = credential_id(answer)
    for key in keys:
        if key.credential_id == wanted:
            return key
    raise AssertionRefused
