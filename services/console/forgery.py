"""That a browser's write was meant by the person in front of it: origin and token (CSRF)."""

from __future__ import annotations

import base64
import hashlib
import hmac

from shared.runtime.problems import Problem

HEADER = "X-CSRF-Token"
FIELD = "csrf"


def token_for(secret: str) -> str:
    """The token of pages shown to the browser that holds `secret` in a cookie.

    It is derived, not kept: who can read neither the cookie nor our pages cannot make one.
    """
    made = hmac.digest(secret.encode(), b"muster csrf 1", hashlib.sha256)
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


def check_origin(given: str | None, own: str) -> None:
    """Refuse a write that another site asks for; every browser names the origin of a write."""
    if given != own:
        detail = f"This was not sent by a page of this console. Open it at {own} and try again."
        raise Problem(403, "foreign_origin", detail)


def check_token(given: str | None, secret: str | None) -> None:
    if secret is None or not hmac.compare_digest(
        (given or "").encode(), token_for(secret).encode()
    ):
        detail = "The page was too old, or not ours. Nothing was changed: reload it and try again."
        raise Problem(403, "form_outdated", detail)
