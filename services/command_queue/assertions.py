"""WebAuthn assertions over digests that this service works out itself (security.md, The guard).

Neither the console nor a session can make one: it is the key that signs, with its person verified.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson
import webauthn
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import PublicKeyCredentialDescriptor, UserVerificationRequirement

from services.command_queue.store.approvers import Key

_SECONDS = 120
Credential = Mapping[str, Any]
"""As the browser's script sends it: PublicKeyCredential.toJSON()."""


class AssertionRefused(Exception):  # noqa: N818 (a refusal, not a fault of ours)
    """No key of the account signed this digest here."""


def digest_of(purpose: str, subject: Mapping[str, Any]) -> bytes:
    """SHA-256 of a purpose and what it is about, written in one way only."""
    written = orjson.dumps(
        {"muster": purpose, "subject": subject},
        option=orjson.OPT_SORT_KEYS,
        default=str,
    )
    return hashlib.sha256(written).digest()


class Assertions:
    """Keys answer for the console's host (the relying party's id), at its origin."""

    def __init__(self, console_url: str) -> None:
        parts = urlsplit(console_url)
        self._host = parts.hostname or ""
        self._origin = f"{parts.scheme}://{parts.netloc}".lower()

    def options(self, digest: bytes, keys: Sequence[Key]) -> dict[str, Any]:
        """What the browser needs to have one of the keys sign the digest."""
        options = webauthn.generate_authentication_options(
            rp_id=self._host,
            challenge=digest,
            timeout=_SECONDS * 1000,
            allow_credentials=[PublicKeyCredentialDescriptor(one.credential_id) for one in keys],
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        plain: dict[str, Any] = json.loads(webauthn.options_to_json(options))
        return plain

    def check(self, digest: bytes, keys: Sequence[Key], answer: Credential) -> tuple[Key, int]:
        """The key that signed, and its counter; raises AssertionRefused for every other answer.

        A counter that does not rise may be a copy's: refused by the library.
        """
        key = _named(keys, answer)
        try:
            verified = webauthn.verify_authentication_response(
                credential=dict(answer),
                expected_challenge=digest,
                expected_rp_id=self._host,
                expected_origin=self._origin,
                credential_public_key=key.public_key,
                credential_current_sign_count=key.sign_count,
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError, TypeError, KeyError):
            raise AssertionRefused from None
        return key, verified.new_sign_count


def _named(keys: Sequence[Key], answer: Credential) -> Key:
    try:
        wanted = webauthn.base64url_to_bytes(str(answer.get("id")))
    except ValueError:
        raise AssertionRefused from None
    for key in keys:
        if key.credential_id == wanted:
            return key
    raise AssertionRefused
