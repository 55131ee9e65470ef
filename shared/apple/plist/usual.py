"""The form in which Apple's own writer sends property lists, read without an XML parser.

Expat calls Python for every start, text and end; here one pattern takes a key with its value, which
is four times as fast. Nothing is refused in this module: at the first thing that is not usual (a
comment, a CDATA section, an attribute, a wrong value, a limit in sight) it gives up, and the whole
document goes to the real parser, which accepts it or says what is wrong. So this module must only
be sound: what it returns is what `document.read` returns. tests/apple compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from shared.apple.plist.values import LEAVES, Limits

_GAP: Final = r"[ \t\r\n]*+"
# Characters that stand for themselves in XML text (XML 1.0 §2.2, §2.4); a carriage return does not.
_PLAIN: Final = r"[^<>&\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"
_TEXT: Final = _PLAIN.replace("&", "")
_BARE: Final = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)")
_LONGEST_KEY: Final = 1024
_START: Final = re.compile(
    rf'(?:<\?xml version="1\.0" encoding="UTF-8"\?>{_GAP})?'
    r'(?:<!DOCTYPE plist PUBLIC "-//Apple(?: Computer)?//DTD PLIST 1\.0//EN"'
    rf' "https?://www\.apple\.com/DTDs/PropertyList-1\.0\.dtd">{_GAP})?'
    rf'<plist version="1\.0">{_GAP}<dict>'
)
# Each match starts where the last one ended: what fits nothing else is the last match, to the end.
# Only single characters are repeated, possessively: no input makes it go back. Groups are not:
# before 3.11.5 Python goes on in the middle of a possessive group that did not match (gh-106052),
# and took <key></dict> for </dict>.
_TOKEN: Final = re.compile(
    rf"{_GAP}(?:<key>({_PLAIN}{{1,{_LONGEST_KEY}}}+)</key>{_GAP})?"
    rf"<(?:(string|integer|real|date|data)>({_TEXT}*+)</\2>"
    r"|(true/|false/|string/|dict/?|array/?|/dict|/array)>)"
    r"|([\s\S]++)"
)
_END: Final = re.compile(rf"{_GAP}</plist>{_GAP}")

_Token = tuple[str | None, str | None, str, str | None, str | None]


class _UnusualError(ValueError):
    """Left to the real parser."""


def _unescaped(text: str) -> str:
    """Resolve the five predefined entities (XML 1.0 §4.6): the ampersand last."""
    if "&" not in text:
        return text
    _require(_BARE.search(text) is None)
    for name, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'")):
        text = text.replace(name, character)
    return text.replace("&amp;", "&")


_ESCAPED_LEAVES: Final[Mapping[str, Callable[[str], Any]]] = {**LEAVES, "string": _unescaped}
_EMPTY: Final[Mapping[str | None, Any]] = {"true/": True, "false/": False, "string/": ""}
_BEGINS: Final[Mapping[str | None, type]] = {
    "dict": dict,
    "dict/": dict,
    "array": list,
    "array/": list,
}
_ENDS: Final[Mapping[str | None, type]] = {"/dict": dict, "/array": list}


def read(data: bytes, limits: Limits) -> dict[str, Any] | None:
    """Read a document in the usual form; None leaves it to `document.read`."""
    # Every node has its own "<": fewer of these than the limit are fewer nodes than the limit.
    if data.count(b"<") > limits.max_nodes or limits.max_key < _LONGEST_KEY:
        return None
    try:
        source = data.decode()
        start = _START.match(source)
        if start is None:
            return None
        leaves = _ESCAPED_LEAVES if "&" in source else LEAVES
        matches = _TOKEN.finditer(source, start.end())
        tokens = cast("Iterator[_Token]", map(re.Match.groups, matches))
        root = _build(tokens, leaves, limits.max_depth)
        return root if _END.fullmatch(next(tokens)[-1] or "") else None
    except (ValueError, KeyError):
        # Also a value of the wrong form: `document.read` says which comes first.
        return None


def _build(
    tokens: Iterator[_Token], leaves: Mapping[str, Callable[[str], Any]], max_depth: int
) -> dict[str, Any]:
    """Build the tree up to the end of its root; raises ValueError or KeyError."""
    root: dict[str, Any] = {}
    here: Any = root
    outer: list[Any] = []
    for key, kind, text, mark, _ in tokens:
        if kind is not None:
            value = leaves[kind](text)
        elif mark in _EMPTY:
            value = _EMPTY[mark]
        elif mark in _ENDS:
            _require(key is None and type(here) is _ENDS[mark])
            if not outer:
                return root
            here = outer.pop()
            continue
        else:
            value = _BEGINS[mark]()
        if type(here) is list:
            _require(key is None)
            here.append(value)
        elif key is None or key in here:
            raise _UnusualError
        else:
            here[key] = value
        if mark in _BEGINS:
            # The document and `here` lie around it as well.
            _require(len(outer) + 2 <= max_depth)
            if mark in {"dict", "array"}:
                outer.append(here)
                here = value
    raise _UnusualError


def _require(usual: bool) -> None:  # noqa: FBT001 - one unnamed condition is its only use
    if not usual:
        raise _UnusualError
