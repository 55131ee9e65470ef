"""Where a person may be sent after signing in: a path of ours, never another site."""

from __future__ import annotations

import re

HOME = "/"
_PATH = re.compile(r"/(?:[A-Za-z0-9_~-][A-Za-z0-9._~-]*/?)*")
_QUERY = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*")
_NEVER = re.compile(r"/(sign-in|sign-out|set-up|reset|step-up|assets|api|internal)(/|$)")
_MAX = 2000


def local(wanted: str) -> str:
    """`wanted` if it is a path of our own that shows something, else the first page."""
    path, _, query = wanted.partition("?")
    plain = len(wanted) <= _MAX and _PATH.fullmatch(path) and _QUERY.fullmatch(query)
    return wanted if plain and not _NEVER.match(path) else HOME
