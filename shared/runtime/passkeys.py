"""Answers of WebAuthn keys, as everybody proves them who asks keys anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

import webauthn
from webauthn.helpers.exceptions import WebAuthnException

Credential = Mapping[str, Any]
"""As the browser's script sends it: PublicKeyCredential.toJSON()."""


class AssertionRefused(Exception):  # noqa: N818 (a refusal, not a fault of ours)
    """The key did not answer this challenge here."""


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """Keys are bound to the console's host (the relying party's id) and asked for at its origin."""

    host: str
    origin: str

    @classmethod
    def at(cls, url: str) -> Self:
        return cls(urlsplit(url).hostname or "", origin_of(url))

    def check(
        self, answer: Credential, *, challenge: bytes, public_key: bytes, sign_count: int
    ) -> int:
        """The key's counter after its answer, with the person verified; raises AssertionRefused.

        A counter that does not rise may be a copy's: refused by the library.
        """
        try:
            verified = webauthn.verify_authentication_response(
                credential=dict(answer),
                expected_challenge=challenge,
                expected_rp_id=self.host,
                expected_origin=self.origin,
                credential_public_key=public_key,
                credential_current_sign_count=sign_count,
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError, TypeError, KeyError):
            raise AssertionRefused from None
        return verified.new_sign_count


def origin_of(url: str) -> str:
    """Scheme, host and port as a browser writes them into `Origin`."""
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    port = "" if parts.port in {None, usual} else f":{parts.port}"
    return f"{parts.scheme}://{parts.hostname}{port}"


def credential_id(answer: Credential) -> bytes:
    """What the answer says which key it is of; raises AssertionRefused."""
    try:
        return webauthn.base64url_to_bytes(str(answer.get("id")))
    except ValueError:
        raise AssertionRefused from None


def plain(options: Any) -> dict[str, Any]:
    """Options as the browser's script reads them."""
    shown: dict[str, Any] = json.loads(webauthn.options_to_json(options))
    return shown
