"""BER to DER: exact on DER, equal on every BER spelling, bounded on anything."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.apple import der
from shared.apple.der import DerError, Limits

Tree = tuple[int, "bytes | list[Tree]"]

primitive: st.SearchStrategy[Tree] = st.tuples(
    st.sampled_from([0x02, 0x04, 0x06, 0x0C, 0x13, 0x80, 0x82]), st.binary(max_size=300)
)
trees: st.SearchStrategy[Tree] = st.recursive(
    primitive,
    lambda inner: st.tuples(st.sampled_from([0x30, 0x31, 0xA0, 0xA1]), st.lists(inner, max_size=4)),
    max_leaves=12,
)


def encode(tree: Tree) -> bytes:
    tag, body = tree
    return der.tlv(tag, body if isinstance(body, bytes) else b"".join(map(encode, body)))


def spell(tree: Tree, draw: st.DataObject) -> bytes:
    """Write a tree as some BER: long lengths, indefinite lengths, strings in pieces."""
    tag, body = tree
    if isinstance(body, bytes):
        if tag not in {0x04, 0x0C, 0x13} or not draw.draw(st.booleans()):
            return tlv_long(tag, body, draw)
        cut = draw.draw(st.integers(0, len(body)))
        inside = spell((tag, body[:cut]), draw) + tlv_long(0x04, body[cut:], draw)
        return constructed(tag | 0x20, inside, draw)
    return constructed(tag, b"".join(spell(item, draw) for item in body), draw)


def constructed(tag: int, inside: bytes, draw: st.DataObject) -> bytes:
    if draw.draw(st.booleans()):
        return bytes((tag, 0x80)) + inside + b"\x00\x00"
    return tlv_long(tag, inside, draw)


def tlv_long(tag: int, body: bytes, draw: st.DataObject) -> bytes:
    if draw.draw(st.booleans()):
        return bytes((tag, 0x84)) + len(body).to_bytes(4, "big") + body
    return der.tlv(tag, body)


@given(trees)
def test_der_stays_as_it_is(tree: Tree) -> None:
    assert der.to_der(encode(tree)) == encode(tree)


@given(trees, st.data())
def test_every_spelling_becomes_the_same_der(tree: Tree, draw: st.DataObject) -> None:
    assert der.to_der(spell(tree, draw)) == encode(tree)


@given(st.binary(max_size=64), st.sampled_from([b"", b"\x30\x80", b"\x24\x80\x04"]))
def test_any_bytes_are_der_or_an_error(data: bytes, head: bytes) -> None:
    with contextlib.suppress(DerError):
        der.to_der(head + data)
    with contextlib.suppress(DerError):
        der.elements(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x30", id="tag only"),
        pytest.param(b"\x30\x05\x04\x01a", id="truncated"),
        pytest.param(b"\x30\x02\x04\x05", id="child passes its parent"),
        pytest.param(b"\x04\x80\x00\x00", id="primitive without length"),
        pytest.param(b"\x30\x80\x04\x01a", id="no end of contents"),
        pytest.param(b"\x30\x80\x04\x01a\x00", id="half an end of contents"),
        pytest.param(b"\x30\x85\x00\x00\x00\x00\x01a", id="five length octets"),
        pytest.param(b"\x3f\x1f\x00", id="long tag"),
        pytest.param(b"\x24\x03\x02\x01a", id="mixed pieces"),
        pytest.param(b"\x30\x00\x30\x00", id="trailing bytes"),
        pytest.param(b"\x30\x80" * 40 + b"\x00\x00" * 40, id="deep"),
        pytest.param(b"\x30\x80" + b"\x05\x00" * 5000 + b"\x00\x00", id="many"),
        pytest.param(b"\x04\x83\x01\x00\x00" + bytes(65536), id="large"),
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(DerError):
        der.to_der(data)


def test_limits_are_the_callers() -> None:
    data = b"\x30\x80\x30\x80\x00\x00\x00\x00"
    assert der.to_der(data, limits=Limits(max_depth=1, max_nodes=2)) == b"\x30\x02\x30\x00"
    for limits in (Limits(max_depth=0), Limits(max_nodes=1), Limits(max_bytes=7)):
        with pytest.raises(DerError):
            der.to_der(data, limits=limits)


def test_end_of_contents_may_not_leave_its_parent() -> None:
    with pytest.raises(DerError):
        der.to_der(b"\x30\x03\x30\x80\x00\x00")
