"""Property lists: what is read, what is refused, and that nothing else can happen."""

from __future__ import annotations

import contextlib
import plistlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.apple import plist
from shared.apple.plist import DEFAULT_LIMITS, Limits, PlistError, usual
from shared.apple.plist import document as by_expat

HEAD = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" '
    b'"http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n'
)


def document(body: bytes) -> bytes:
    return HEAD + b'<plist version="1.0">' + body + b"</plist>"


def of(value: bytes) -> bytes:
    return document(b"<dict><key>k</key>" + value + b"</dict>")


def test_every_type_is_read() -> None:
    parsed = plist.parse(
        document(
            b"<dict><key>s</key><string> a&amp;b </string><key>i</key><integer>-7</integer>"
            b"<key>u</key><integer>18446744073709551615</integer><key>r</key><real>1.5e2</real>"
            b"<key>t</key><true/><key>f</key><false/><key>d</key><data>\n\tAAEC\n\t</data>"
            b"<key>w</key><date>2026-01-31T08:00:00Z</date><key>e</key><string/>"
            b"<key>a</key><array><dict/><array/><string><![CDATA[<x>]]></string></array></dict>"
        )
    )
    assert parsed == {
        "s": " a&b ",
        "i": -7,
        "u": 2**64 - 1,
        "r": 150.0,
        "t": True,
        "f": False,
        "d": b"\x00\x01\x02",
        "w": datetime(2026, 1, 31, 8, tzinfo=UTC),
        "e": "",
        "a": [{}, [], "<x>"],
    }


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "not well-formed", id="empty"),
        pytest.param(b"bplist00\xd1\x01", "binary", id="binary"),
        pytest.param(of(b"<string>a</string>")[:-9], "not well-formed", id="truncated"),
        pytest.param(of(b"<string>\x00</string>"), "NUL", id="nul"),
        pytest.param(of(b"<string>&#0;</string>"), "not well-formed", id="nul reference"),
        pytest.param(of(b"<string>&#xD800;</string>"), "not well-formed", id="surrogate"),
        pytest.param(of(b"<string>\xed\xa0\x80</string>"), "not well-formed", id="raw surrogate"),
        pytest.param(of(b"<string>\xff</string>"), "not well-formed", id="not utf-8"),
        pytest.param(of(b"<true/>").decode().encode("utf-16"), "NUL", id="utf-16"),
        pytest.param(of(b"<string>&x;</string>"), "entities", id="undefined entity"),
        pytest.param(
            b'<!DOCTYPE plist [<!ENTITY x "y">]><plist><dict/></plist>',
            "document type",
            id="subset",
        ),
        pytest.param(b"<!DOCTYPE html><plist><dict/></plist>", "document type", id="other doctype"),
        pytest.param(document(b"<?php x?><dict/>"), "processing", id="instruction"),
        pytest.param(of(b"<string>a</string><key>k</key><true/>"), "duplicate", id="duplicate"),
        pytest.param(of(b"<data>AAE</data>"), "bad base64", id="base64"),
        pytest.param(of(b"<data>A*==</data>"), "bad base64", id="base64 alphabet"),
        pytest.param(of("<data>é</data>".encode()), "bad base64", id="base64 letters"),
        pytest.param(of(b"<date>2026-02-30T00:00:00Z</date>"), "bad date", id="no such day"),
        pytest.param(of(b"<date>yesterday</date>"), "bad date", id="date"),
        pytest.param(of(b"<integer>" + b"9" * 5000 + b"</integer>"), "bad integer", id="huge"),
        pytest.param(of(b"<integer>18446744073709551616</integer>"), "64 bits", id="65 bits"),
        pytest.param(of(b"<integer>1_0</integer>"), "bad integer", id="underscore"),
        pytest.param(of("<integer>١</integer>".encode()), "bad integer", id="other digits"),
        pytest.param(of(b"<integer/>"), "bad integer", id="no integer"),
        pytest.param(of(b"<real>nan</real>"), "bad real", id="nan"),
        pytest.param(of(b"<real>1e9999</real>"), "out of range", id="infinite"),
        pytest.param(document(b"<array/>"), "root", id="array root"),
        pytest.param(document(b"<string>a</string>"), "root", id="string root"),
        pytest.param(document(b""), "no dictionary", id="no root"),
        pytest.param(document(b"<dict/><dict/>"), "root", id="two roots"),
        pytest.param(b"<dict/>", "root", id="no plist element"),
        pytest.param(document(b"<plist><dict/></plist>"), "nested", id="nested document"),
        pytest.param(document(b"<dict><string>a</string></dict>"), "without key", id="no key"),
        pytest.param(document(b"<dict><dict/></dict>"), "without key", id="dict without key"),
        pytest.param(document(b"<dict><key>a</key></dict>"), "without value", id="no value"),
        pytest.param(document(b"<dict><key>a</key><key>b</key></dict>"), "key out", id="two keys"),
        pytest.param(of(b"<array><key>a</key></array>"), "key out", id="key in array"),
        pytest.param(of(b"<string><true/></string>"), "inside a value", id="element in string"),
        pytest.param(of(b"<true>x</true>"), "inside a truth", id="text in true"),
        pytest.param(of(b"<uid>1</uid>"), "unknown", id="unknown element"),
        pytest.param(document(b"<dict>x<key>a</key><true/></dict>"), "between", id="stray text"),
        pytest.param(of(b'<string x="1">a</string>'), "attribute", id="attribute"),
        pytest.param(of(b"<true/>") + b"<plist/>", "not well-formed", id="two documents"),
        pytest.param(
            document(b"<dict><key>" + b"k" * 1025 + b"</key><true/></dict>"),
            "key too",
            id="long key",
        ),
        pytest.param(of(b"<array>" * 40 + b"</array>" * 40), "too deep", id="deep"),
    ],
)
def test_refused(body: bytes, reason: str) -> None:
    with pytest.raises(PlistError, match=reason) as caught:
        plist.parse(body)
    assert len(caught.value.reason) < 120


def test_limits() -> None:
    body = of(b"<array>" + b"<true/>" * 50 + b"</array>")
    assert plist.parse(body, limits=Limits(max_nodes=54))
    with pytest.raises(PlistError, match="too many"):
        plist.parse(body, limits=Limits(max_nodes=53))
    with pytest.raises(PlistError, match="too large"):
        plist.parse(body, limits=Limits(max_bytes=len(body) - 1))
    nested = of(b"<array>" * 3 + b"</array>" * 3)
    assert plist.parse(nested, limits=Limits(max_depth=4))
    with pytest.raises(PlistError, match="too deep"):
        plist.parse(nested, limits=Limits(max_depth=3))


text = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20).filter(
    lambda value: "\ufffe" not in value and "\uffff" not in value
)
leaves = (
    text
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.binary(max_size=30)
    | st.datetimes(
        datetime(1, 1, 1),  # noqa: DTZ001 - hypothesis wants naive bounds
        timezones=st.just(UTC),
    ).map(lambda moment: moment.replace(microsecond=0))
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5),
    max_leaves=20,
)


@given(st.dictionaries(text, values, max_size=6))
def test_what_is_written_is_read_back(value: dict[str, Any]) -> None:
    assert plist.parse(plist.dump(value)) == value


tags = st.sampled_from(["$data", "$date", "$dict"])


@given(st.dictionaries(text | tags, values, max_size=3) | st.dictionaries(tags, values, max_size=1))
def test_json_and_back(value: dict[str, Any]) -> None:
    """Everything comes back, dates as their text; keys like our own tags cannot forge data."""
    assert plist.from_json(plist.to_json(value)) == dates_as_text(value)


def dates_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: dates_as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [dates_as_text(item) for item in value]
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat() + "Z"
    return value


def test_a_date_from_json() -> None:
    body = plist.dump({"when": plist.from_json({"$date": "2026-01-31T08:00:00Z"})})
    assert b"<date>2026-01-31T08:00:00Z</date>" in body


@given(st.binary(max_size=200))
def test_any_bytes_are_a_plist_error_or_a_dictionary(data: bytes) -> None:
    for body in (data, document(data), of(data)):
        with contextlib.suppress(PlistError):
            assert isinstance(plist.parse(body), dict)


@given(st.binary(max_size=12), st.integers(0, 400), st.integers(0, 12))
def test_damaged_documents(junk: bytes, at: int, cut: int) -> None:
    body = plistlib.dumps({"a": [1, b"data", "text", {"b": 2.5, "c": True}]})
    with contextlib.suppress(PlistError):
        assert isinstance(plist.parse(body[:at] + junk + body[at + cut :]), dict)


@pytest.mark.parametrize(
    "value",
    [None, {"a": None}, 2**64, {"$data": "*"}, {"$date": "now"}, [object()]],
    ids=["null", "null inside", "65 bits", "base64", "date", "object"],
)
def test_json_that_no_plist_can_hold(value: Any) -> None:
    with pytest.raises(PlistError):
        plist.from_json(value)


def test_deep_json_is_refused() -> None:
    value: Any = 1
    for _ in range(900):
        value = [value]
    with pytest.raises(PlistError, match="too deep"):
        plist.from_json(value)


def test_what_cannot_be_written() -> None:
    with pytest.raises(PlistError):
        plist.dump({"a": None})


def test_reading_a_document_is_independent_of_plistlib() -> None:
    """The golden vector: bytes as a Mac sends them, not bytes of our own writer."""
    body = HEAD + (
        b'<plist version="1.0">\n<dict>\n\t<key>MessageType</key>\n\t<string>TokenUpdate</string>\n'
        b"\t<key>Token</key>\n\t<data>\n\tq83vASNFZ4k=\n\t</data>\n"
        b"\t<key>AwaitingConfiguration</key>\n\t<false/>\n</dict>\n</plist>\n"
    )
    assert plist.parse(body) == {
        "MessageType": "TokenUpdate",
        "Token": bytes.fromhex("abcdef0123456789"),
        "AwaitingConfiguration": False,
    }


def both(body: bytes, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any] | None:
    """Read a document both ways: the short way may only leave it, or agree with the long one."""
    short = usual.read(body, limits)
    if short is None:
        return None
    # As text: 1, 1.0 and True are equal.
    assert repr(short) == repr(by_expat.read(body, limits))
    return short


pieces = st.sampled_from(
    [
        *(f"<{name}>" for name in ("dict", "array", "string", "true", "plist", "key", "uid")),
        *(f"</{name}>" for name in ("dict", "array", "string", "true", "plist", "key")),
        *("<dict/>", "<array/>", "<string/>", "<true/>", "<false/>", "<integer/>", "<key/>"),
        *("<key>a</key>", "<key>b</key>", "<key></key>", "<key>a&amp;b</key>", "<key>é</key>"),
        *("<string>s</string>", "<string></string>", "<string>]]></string>", "<integer>1</string>"),
        *("<integer>7</integer>", "<integer> -7 </integer>", "<integer>٣</integer>"),
        *("<integer>18446744073709551616</integer>", "<integer>999999999999999999</integer>"),
        *("<real>1.5</real>", "<data>AAEC</data>", "<date>2026-01-31T08:00:00Z</date>"),
        *("&", "&amp;", "&amp;lt;", "&lt;", "&#65;", "&x;", "<!-- c -->", "<![CDATA[x]]>", "<?p?>"),
        *(
            " ",
            "\n\t",
            "\r\n",
            "\xa0",
            "\x0b",
            "\x85",
            "\ufeff",
            "\ufffe",
            "\x7f",
            "text",
            ">",
            "<",
        ),
    ]
)


@given(st.lists(pieces, max_size=25))
@example(["<key>"])
@example(["<key>a"])
@example(["<key>a</key><string>&"])
@example(["<key>a</key><string>&</string>"])
@example(["<key>a</key><string>&am;</string>"])
@example(["<key>a</key><data>AA&EC</data>"])
@example(["<key>a</key><data>AA&amp;EC</data>"])
@example(["<key>a</key><integer>1&lt;</integer>"])
def test_the_short_way_agrees_with_the_parser(found: list[str]) -> None:
    inside = "".join(found)
    for text_of in (inside, f"<key>k</key>{inside}", f"<key>k</key><array>{inside}</array>"):
        both(document(f"<dict>{text_of}</dict>".encode()))
    both(document(b"<dict><key>k</key><string>" + inside.encode() + b"</string></dict>"))
    both(document(f"<dict>{inside}".encode()))
    both(document(f"{inside}<dict></dict>{inside}".encode()))
    both(inside.encode() + document(b"<dict></dict>"))
    both(document(b"<dict></dict>") + inside.encode())


@pytest.mark.parametrize("removed", range(1, 60))
def test_a_beginning_that_breaks_off_is_not_the_short_ways(removed: int) -> None:
    whole = document(b"<dict></dict>")
    for at in range(whole.index(b"<plist")):
        both(whole[:at] + whole[at + removed :])


@given(st.dictionaries(text, values, max_size=6), st.data())
def test_the_short_way_agrees_on_damage(value: dict[str, Any], draw: st.DataObject) -> None:
    body = bytearray(plist.dump(value))
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(body) - 1))
        body[at : at + draw.draw(st.integers(0, 9))] = draw.draw(st.binary(max_size=6))
    both(bytes(body))


@given(st.integers(0, 12), st.integers(0, 24))
def test_the_short_way_keeps_the_limits(depth: int, nodes: int) -> None:
    limits = Limits(max_depth=depth, max_nodes=nodes)
    for inside in (b"<array>" * 6 + b"</array>" * 6, b"<array><dict/><array/></array>"):
        both(of(inside), limits)
    assert usual.read(of(b"<true/>"), Limits(max_key=10)) is None


def test_the_usual_documents_go_the_short_way() -> None:
    value = {
        "s": "Bücher & <Karten>",
        "i": [0, -1, 2**64 - 1],
        "r": 1.5,
        "d": b"data" * 40,
        "w": datetime(2026, 1, 31, 8, tzinfo=UTC),
        "t": [True, False, {}, [], "", {"k": "v"}],
    }
    for body in (plist.dump(value), of(b"<string/>"), of(b"\r\n<true/>\r\n")):
        assert both(body) is not None
    assert both(plist.dump(value)) == value


@pytest.mark.parametrize(
    "inside",
    [
        b"<!-- a comment --><key>k</key><true/>",
        b"<key>k</key><string><![CDATA[x]]></string>",
        b"<key>k</key><string>&#233;</string>",
        b"<key>k</key><string>a\rb</string>",
        b"<key></key><true/>",
        b"<key>a&amp;b</key><true/>",
        b"<key>k</key><true></true>",
    ],
)
def test_what_is_unusual_is_read_by_the_parser(inside: bytes) -> None:
    body = document(b"<dict>" + inside + b"</dict>")
    assert usual.read(body, DEFAULT_LIMITS) is None
    assert len(plist.parse(body)) == 1
