"""Keeps secrets out of logs: by the name of a field, and by the look of a text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_NAMES = re.compile(
    r"password|passphrase|passcode|secret|token|authorization|cookie|private|credential_key"
    r"|magic|challenge|unlock|recovery|\bpin\b|_pin$|^pin_|api_key|signature",
    re.IGNORECASE,
)
_TEXTS = (
    (re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), HIDDEN),  # a JWT
    (re.compile(r"\bmst_[\w-]{8,}"), HIDDEN),  # an API token
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"(\w+://[^\s:/@]+:)[^\s@]+@"), rf"\1{HIDDEN}@"),  # a password in an address
    (
        re.compile(r"(/(?:scep|enroll/apple|set-up|join)/)[^\s/?\"']+"),
        rf"\1{HIDDEN}",
    ),  # one-time paths
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*-----|\Z)", re.DOTALL),
        HIDDEN,
    ),
    (
        re.compile(
            r"(?i)((?:password|secret|token|passcode|pin)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;}]+"
        ),
        rf"\1{HIDDEN}",
    ),
)
_DEPTH = 6


def redact_text(text: str) -> str:
    for pattern, replacement in _TEXTS:
        text = pattern.sub(replacement, text)
    return text


def redact(value: Any, depth: int = _DEPTH) -> Any:
    """A copy fit for a log line; what lies deeper than six levels is left out."""
    if depth == 0:
        return "…"
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {
            str(name): HIDDEN if _NAMES.search(str(name)) else redact(inner, depth - 1)
            for name, inner in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact(inner, depth - 1) for inner in value]
    return value
