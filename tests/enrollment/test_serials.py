"""The list of serials, by API."""

from __future__ import annotations

import pytest

from shared.events.audit import AuditRecorded
from shared.events.devices import SerialsListed
from tests.enrollment.conftest import API, House

SERIALS = f"{API}/serials"


async def import_file(house: House, data: bytes, kind: str = "text/csv") -> tuple[int, dict]:  # type: ignore[type-arg]
    headers = {"Authorization": f"Bearer {house.service.token()}", "Content-Type": kind}
    answer = await house.service.send("api", "POST", f"{SERIALS}/import", data, headers)
    return answer.status, answer.json


async def test_serials_are_listed_found_and_taken_off(house: House) -> None:
    body = {"serials": [" f2lx0001 ", "C02Y", "F2LX0001"], "note": "order 7"}
    assert await house.call("POST", "/serials", body, actor="ada") == {"changed": 2}
    assert await house.call("POST", "/serials", body) == {"changed": 0}
    page = await house.call("GET", "/serials?q=f2")
    [row] = page["items"]
    assert (row["serial"], row["note"], row["added_by"]) == ("F2LX0001", "order 7", "ada")
    told = await house.told()
    assert told.one(SerialsListed).serials == ["C02Y", "F2LX0001"]
    audit = told.one(AuditRecorded)
    assert (audit.actor, audit.action) == ("ada", "serials.list")
    assert audit.after == {"serials": ["C02Y", "F2LX0001"]}

    gone = await house.call("POST", "/serials/remove", {"serials": ["c02y", "NEVER"]})
    assert gone == {"changed": 1}
    told = await house.told()
    assert (told.one(SerialsListed).listed, told.one(SerialsListed).serials) == (False, ["C02Y"])
    assert told.one(AuditRecorded).before == {"serials": ["C02Y"]}
    assert [one["serial"] for one in (await house.call("GET", "/serials"))["items"]] == ["F2LX0001"]


async def test_the_list_is_read_page_by_page(house: House) -> None:
    await house.call("POST", "/serials", {"serials": [f"S{n}" for n in range(5)]})
    seen, cursor = [], ""
    while True:
        page = await house.call("GET", f"/serials?limit=2{cursor}")
        seen += [one["serial"] for one in page["items"]]
        if not page["next"]:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == ["S0", "S1", "S2", "S3", "S4"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xef\xbb\xbfName,Serial,Note\r\nx,a1,first\r\n,b2,\r\n\r\n", "text/csv"),
        (b"a1,first\nB2\n", "text/csv"),
        (b'{"serial": "a1", "note": "first", "x": 1}\n\n{"serial": "b2"}', "application/jsonl"),
    ],
)
async def test_a_file_is_listed_at_once(house: House, data: bytes, kind: str) -> None:
    status, report = await import_file(house, data, kind)
    assert (status, report) == (200, {"listed": 2, "known": 0, "refused": 0, "bad": []})
    rows = (await house.call("GET", "/serials"))["items"]
    assert [(row["serial"], row["note"]) for row in rows] == [("A1", "first"), ("B2", None)]
    assert (await import_file(house, data, kind))[1]["known"] == 2


async def test_bad_rows_are_named_and_good_ones_count(house: House) -> None:
    data = b'{"serial": "GOOD"}\nnot json\n{"serial": ""}\n[1]\n{"note": "none"}'
    status, report = await import_file(house, data, "application/x-ndjson")
    assert (status, report["listed"], report["refused"]) == (200, 1, 4)
    assert [one["row"] for one in report["bad"]] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("data", "kind", "status", "code"),
    [
        (b"a", "application/json", 415, "file_wanted"),
        (b"\xff\xfe", "text/csv", 422, "text_unreadable"),
        (b'"never closed', "text/csv", 422, "csv_unreadable"),
        (b"\n".join(b"S%d" % n for n in range(20_001)), "text/csv", 413, "too_many_rows"),
    ],
)
async def test_a_file_that_cannot_be_read_lists_nothing(
    house: House, data: bytes, kind: str, status: int, code: str
) -> None:
    found, report = await import_file(house, data, kind)
    assert (found, report["code"]) == (status, code)
    assert not await house.query("SELECT FROM listed_serial")


async def test_a_long_file_is_told_in_parts(house: House) -> None:
    data = b"\n".join(b"S%05d" % n for n in range(2_500))
    assert (await import_file(house, data))[1]["listed"] == 2_500
    told = (await house.told()).of(SerialsListed)
    assert [len(one.serials) for one in told] == [1_000, 1_000, 500]


@pytest.mark.parametrize(
    "body", [{"serials": []}, {"serials": ["a b"]}, {"serials": ["x" * 101]}, {"serials": ["\x00"]}]
)
async def test_what_is_no_serial_is_refused(house: House, body: dict[str, object]) -> None:
    assert (await house.service.call("POST", SERIALS, body)).status == 422


async def test_the_list_needs_its_permission(house: House) -> None:
    for path in ("", "/remove", "/import"):
        answer = await house.service.call(
            "POST", SERIALS + path, {"serials": ["A"]}, permissions=["enrollment.read"]
        )
        assert answer.status == 403
