"""A long list is cut out of its body and read in pieces, or not at all."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.runtime.long_bodies import PIECE, split

# JSON carries text that UTF-8 can: no lone surrogates.
TEXT = st.text(st.characters(codec="utf-8"))
ENTRIES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters='],"\\'), max_size=40), max_size=30
)


@given(entries=ENTRIES, times=st.sampled_from([1, 400]), indent=st.booleans(), rest=TEXT)
def test_the_pieces_are_the_list(
    entries: list[str], times: int, *, indent: bool, rest: str
) -> None:
    body = {"before": rest, "ids": entries * times, "after": {"deep": [rest]}}
    data = orjson.dumps(body, option=orjson.OPT_INDENT_2 if indent else None)
    parts = split(data, "ids")
    assert parts is not None
    assert parts.rest == body | {"ids": []}
    pieces = list(parts.pieces())
    assert [one for piece in pieces for one in orjson.loads(piece)] == entries * times
    assert all(len(piece) < PIECE + 300 for piece in pieces)


@pytest.mark.parametrize(
    "data",
    [
        b'{"inner": {"ids": ["a"]}, "ids": ["b"]}',  # another list of that name comes first
        b'{"inner": {"ids": ["a"]}}',
        b'{"ids": ["a"], "ids": ["b"]}',
        b'{"ids": [["a"], "b"]}',
        b'{"ids": ["]", "b"]}',
        b'{"ids": ["a",]}',
        b'{"ids": "none"}',
        b'{"ids": ["a"',
        b'["ids"]',
        b'{"text": "\\"ids\\": [1]"}',
        b"rubbish",
    ],
)
def test_what_is_of_another_form_is_left_alone(data: bytes) -> None:
    assert split(data, "ids") is None


def test_a_comma_inside_of_an_entry_never_makes_two() -> None:
    data = orjson.dumps({"ids": ["a,b" * PIECE, "c"]})
    parts = split(data, "ids")
    assert parts is not None
    with pytest.raises(orjson.JSONDecodeError):
        [orjson.loads(piece) for piece in parts.pieces()]
