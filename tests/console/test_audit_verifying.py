"""The verifier, on files that somebody changed in any way: the first broken link is named."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from services.console.audit.canonical import Content, Head, Key, Link, Root, instant
from services.console.audit.verifying import Broken, Report, Told, verify
from tests.console.audit_files import CHAINS, PUBLIC, START, File, Writer, written


def judged(file: File, *told: Told) -> Report:
    return verify([orjson.dumps(values) for values in file], told, [PUBLIC])


def broken(file: File, *told: Told) -> Broken:
    with pytest.raises(Broken) as found:
        judged(file, *told)
    return found.value


def links(file: File) -> list[int]:
    """Where links stand in the file."""
    return [place for place, values in enumerate(file) if values["type"] == "link"]


def place_of(values: dict[str, Any]) -> tuple[Key, int]:
    return (values["topic"], values["partition"]), values["position"]


MINUTES = st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=5)
FULL = MINUTES.filter(any)
ANY = st.integers(0, 10_000)
FIELDS = ("recorded_at", "event_id", "occurred_at", "action", "permission")
WORDS = ("salt", "actor", "target", "after", "source", "reason", "before", "via")


@given(MINUTES)
def test_what_nobody_touched_is_good(minutes: list[list[int]]) -> None:
    writer = written(minutes)
    report = judged(writer.file, *writer.roots)
    assert (report.links, report.roots) == (sum(map(len, minutes)), len(minutes))


@given(FULL, ANY, st.sampled_from([*FIELDS, "offset", "content", "hash"]))
def test_a_changed_link_is_named(minutes: list[list[int]], which: int, field: str) -> None:
    writer = written(minutes)
    places = links(writer.file)
    values = writer.file[places[which % len(places)]]
    values[field] = values[field] + 1 if field == "offset" else values[field][:-1] + "~"
    found = broken(writer.file)
    assert (found.kind, found.at) == ("changed", place_of(values))


@given(FULL, ANY, st.sampled_from(WORDS))
def test_changed_content_is_named(minutes: list[list[int]], which: int, word: str) -> None:
    writer = written(minutes)
    places = links(writer.file)
    values = writer.file[places[which % len(places)]]
    values["entry"][word] = "something else"
    found = broken(writer.file)
    assert (found.kind, found.at) == ("changed", place_of(values))


@given(FULL, ANY)
def test_a_link_written_anew_is_found_by_the_next_or_by_the_root(
    minutes: list[list[int]], which: int
) -> None:
    """With hashes that fit it: only what follows betrays it."""
    writer = written(minutes)
    places = links(writer.file)
    values = writer.file[places[which % len(places)]]
    content = Content(**values["entry"] | {"actor": "eve"})
    names = asdict(Link(*("x",) * 11)).keys()  # type: ignore[arg-type]
    link = Link(**{name: values[name] for name in names} | {"content": content.hash})
    values |= {"content": content.hash, "entry": asdict(content), "hash": link.hash}
    found = broken(writer.file)
    assert found.kind == "changed"
    key, position = place_of(values)
    assert found.at in {(key, position + 1), (key, 0)}


@given(FULL, ANY)
def test_a_dropped_link_is_named(minutes: list[list[int]], which: int) -> None:
    writer = written(minutes)
    places = links(writer.file)
    dropped = writer.file.pop(places[which % len(places)])
    found = broken(writer.file)
    assert found.at == place_of(dropped)
    assert found.kind in {"dropped", "cut_off"}


@given(FULL, ANY, ANY)
def test_an_inserted_link_is_named(minutes: list[list[int]], which: int, where: int) -> None:
    """A copy of another with the place of a real one."""
    writer = written(minutes)
    places = links(writer.file)
    real = writer.file[places[where % len(places)]]
    fake = copy.deepcopy(writer.file[places[which % len(places)]])
    fake |= {name: real[name] for name in ("topic", "partition", "position", "previous")}
    fake["entry"]["actor"] = "eve"
    writer.file.insert(places[where % len(places)], fake)
    found = broken(writer.file)
    assert found.at == place_of(real)
    assert found.kind in {"inserted", "changed"}


@given(FULL, ANY, ANY)
def test_links_in_another_order_are_named(minutes: list[list[int]], which: int, other: int) -> None:
    writer = written(minutes)
    file = writer.file
    one, two = sorted({links(file)[n % len(links(file))] for n in (which, other)} | {0})[-2:]
    if one == 0 or place_of(file[one])[0] != place_of(file[two])[0]:
        return
    first = place_of(file[one])
    file[one], file[two] = file[two], file[one]
    found = broken(file)
    assert (found.kind, found.at) == ("reordered", first)


@given(FULL, ANY)
def test_a_file_cut_off_at_any_place_is_found_by_the_root_that_was_told(
    minutes: list[list[int]], where: int
) -> None:
    """Also when its end is put back on."""
    writer = written(minutes)
    roots = [n for n, values in enumerate(writer.file) if values["type"] == "root"]
    cut = 2 + where % (roots[-1] - 1)
    shorter = writer.file[:cut]
    left = sum(values["type"] == "link" for values in shorter)
    found = broken([*shorter, {"type": "end", "links": left}], writer.roots[-1])
    assert found.kind == "cut_off"


@given(FULL, ANY, st.sampled_from(["number", "signed_at", "previous", "heads", "chains", "links"]))
def test_a_forged_root_is_named(minutes: list[list[int]], which: int, field: str) -> None:
    writer = written(minutes)
    roots = [values for values in writer.file if values["type"] == "root"]
    forged = roots[which % len(roots)]
    value = forged[field]
    forged[field] = value + 1 if isinstance(value, int) else value[:-2] + "0~"
    found = broken(writer.file)
    assert found.kind in {"forged", "dropped"}
    assert "oot" in found.detail


@given(FULL)
def test_an_audit_signed_anew_with_another_key_is_none_of_ours(minutes: list[list[int]]) -> None:
    writer, other = written(minutes), Ed25519PrivateKey.generate()
    public = other.public_key().public_bytes_raw().hex()
    writer.file[1]["public_key"] = public
    for values in writer.file:
        if values["type"] == "root":
            values["signature"] = other.sign(Root.read(values).statement).hex()
    assert broken(writer.file).kind == "forged"
    # Without a key that is trusted, what was told outside is what counts.
    changed = verify(map(orjson.dumps, writer.file), [])
    assert changed.keys == {"k": public}


@given(FULL)
def test_a_whole_audit_written_anew_disagrees_with_what_was_told(minutes: list[list[int]]) -> None:
    told = written(minutes).roots[-1]
    anew = written(minutes, "eve")
    judged(anew.file)
    found = broken(anew.file, told)
    assert (found.kind, "rewritten" in found.detail) == ("forged", True)


@given(FULL, st.data())
def test_erased_content_leaves_the_rest_proven(
    minutes: list[list[int]], data: st.DataObject
) -> None:
    writer = written(minutes)
    places = links(writer.file)
    erased = data.draw(st.sets(st.sampled_from(places)))
    for place in erased:
        del writer.file[place]["entry"]
        writer.file[place]["erased_at"] = instant(START)
    assert judged(writer.file, *writer.roots).erased == len(erased)


@given(st.binary(max_size=200))
def test_rubbish_is_no_export(line: bytes) -> None:
    with pytest.raises(Broken):
        verify([line])
    with pytest.raises(Broken):
        verify([orjson.dumps(Writer().file[0]), line])


@given(FULL, ANY, ANY, st.sampled_from([None, [], {}, "x", -1, 2**70]))
def test_rubbish_in_a_field_breaks_it_in_words(
    minutes: list[list[int]], where: int, which: int, value: Any
) -> None:
    writer = written(minutes)
    values = writer.file[where % len(writer.file)]
    field = sorted(values)[which % len(values)]
    if values[field] == value or (values["type"], field) == ("audit", "filters"):
        return
    text = [orjson.dumps(one) for one in writer.file if one is not values or value != 2**70]
    if value != 2**70:
        values[field] = value
        text = [orjson.dumps(one) for one in writer.file]
    with pytest.raises(Broken):
        verify(text, writer.roots)


def test_gaps_and_late_offsets_are_told_and_no_fault() -> None:
    writer = written([[0, 0, 0, 0]])
    anew = Writer()
    for offset in (10, 20, 15, 21):
        anew.link(CHAINS[0])
        values = anew.file[-1]
        names = [name for name in values if name not in {"type", "hash", "entry"}]
        link = replace(Link(**{name: values[name] for name in names}), offset=offset)
        values |= {"offset": offset, "hash": link.hash}
        anew.ends[CHAINS[0]] = anew.moved[CHAINS[0]] = Head(*CHAINS[0], 1, link.position, link.hash)
    anew.root()
    anew.end()
    report = judged(anew.file)
    assert (report.late, report.skipped) == (1, 9)
    assert judged(writer.file).skipped == 3


@pytest.mark.parametrize("wrapped", ["itself", "event", "line of the log"])
def test_a_root_is_read_from_wherever_it_was_told(wrapped: str) -> None:
    [root] = written([[0]]).roots
    plain = {**asdict(root.root), "signature": root.signature}
    forms: dict[str, Any] = {
        "itself": plain,
        "event": {"specversion": "1.0", "data": plain},
        "line of the log": {"level": "info", "root": orjson.dumps(plain).decode()},
    }
    assert Told.read(orjson.dumps(forms[wrapped])) == root


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"data": 1}', '{"root": "x"}', "nothing"])
def test_what_is_no_root_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no root"):
        Told.read(text)
