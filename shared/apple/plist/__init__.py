"""Property lists: bounded XML parsing, writing, and a JSON form that keeps every type.

Only XML is read. A binary property list may name the same object many times and unfold to 2^40
leaves from 244 bytes, and no device needs it on these routes.
"""

from __future__ import annotations

import plistlib
import re
from collections.abc import Mapping
from typing import Any, Final

from shared.apple.plist import document, usual
from shared.apple.plist.json_form import from_json, to_json
from shared.apple.plist.values import DEFAULT_LIMITS, Limits, PlistError

__all__ = ["DEFAULT_LIMITS", "Limits", "PlistError", "dump", "from_json", "parse", "to_json"]

# U+FFFE and U+FFFF in UTF-8 (XML 1.0 §2.2): plistlib writes them, and no parser reads them.
_NONCHARACTERS: Final = re.compile(b"\xef\xbf[\xbe\xbf]")


def parse(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """Parse one XML property list whose root is a dictionary.

    Dates come back aware, in UTC; integers fit 64 bits; reals are finite. Raises PlistError for
    everything else: other formats and encodings, entities, duplicate keys, and each limit.
    """
    if len(data) > limits.max_bytes:
        raise PlistError("too large")
    found = usual.read(data, limits)
    return document.read(data, limits) if found is None else found


def dump(value: Mapping[str, Any]) -> bytes:
    """Write an XML property list, keys in the given order; datetimes must be UTC.

    Raises PlistError for what no property list can hold, and what no reader would take.
    """
    try:
        written = plistlib.dumps(value, sort_keys=False)
    except (TypeError, OverflowError) as error:
        raise PlistError(f"cannot be written: {error}"[:120]) from None
    except ValueError:
        # Control characters and lone surrogates: the library's message may quote the text.
        raise PlistError("cannot be written: text that XML cannot hold") from None
    if _NONCHARACTERS.search(written):
        raise PlistError("cannot be written: text that XML cannot hold")
    return written
