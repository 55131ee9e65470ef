"""Texts that a wire format or the database cannot hold: refused where they come in."""

from __future__ import annotations

import plistlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.apple import plist

UNWRITABLE = ("\x00", "\x01", "\x0b", "\x1f", "\ufffe", "\uffff", "\ud800", "a\udfffb")


@pytest.mark.parametrize("text", UNWRITABLE)
def test_what_xml_cannot_hold_is_not_written(text: str) -> None:
    for value in ({"a": text}, {text: "a"}, {"a": [{"b": text}]}):
        with pytest.raises(plist.PlistError) as refused:
            plist.dump(value)
        assert text not in refused.value.reason


# plistlib writes every carriage return as a line feed: two keys may become one.
_KEYS = st.text(st.characters(exclude_characters="\r"), max_size=100)


@settings(deadline=None)
@given(st.dictionaries(_KEYS, st.text() | st.binary() | st.lists(st.text())))
def test_what_is_written_can_be_read(value: dict[str, object]) -> None:
    """A document that our own reader refuses would be refused by the device, again and again."""
    try:
        written = plist.dump(value)
    except plist.PlistError:
        return
    assert plist.parse(written).keys() == plistlib.loads(written).keys()
