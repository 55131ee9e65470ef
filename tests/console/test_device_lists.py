"""Lists of devices: filters, orders, pages, search, CSV, and whom they show what."""

from __future__ import annotations

import csv
import html
import io
import random
import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from services.console.store import view_lists as lists
from services.console.store.view_conditions import conditions
from services.console.views.filters import Filters, Order, Place, Sort
from shared.events import uuid7
from shared.events.compliance import VerdictState
from shared.events.devices import CertificateIssued, Ownership, Platform
from tests.console.browsing import signed_in, words_of
from tests.console.fleet import START, Console, state


async def test_newcomers_are_counted_of_ones_own_devices(view: Console) -> None:
    old = await view.device(name="old")
    first = await signed_in(view.service, everywhere=["inventory.read"])
    [asked] = re.findall(r'hx-get="(/devices/newcomers[^"]+)"', (await first.get("/devices")).text)
    assert str(old) not in asked
    new = await view.device(name="new", tags=["x"])
    group_id = await view.group("Paris", new)
    mine = await signed_in(view.service, groups={group_id: ["inventory.read"]})
    theirs = await signed_in(view.service, groups={uuid7(): ["inventory.read"]})
    for browser, query, said in (
        (first, "", "1 new device matches: show it"),
        (first, "&q=new", "1 new device matches: show it"),
        (first, "&q=old", ""),
        (first, "&tag=y", ""),
        (mine, "", "1 new device matches: show it"),
        (theirs, "", ""),
    ):
        assert words_of(await browser.get(html.unescape(asked) + query)) == said


async def test_a_device_is_shown_as_the_events_tell(view: Console) -> None:
    device_id = await view.device(
        name="Ada's iPhone",
        serial="C39X1",
        udid="0000-1111",
        user="ada@example.com",
        model="iPhone",
        product="iPhone14,5",
        os_version="17.4.1",
        supervised=True,
        tags=["field", "eu"],
    )
    await view.seen(device_id)
    group_id = await view.group("Sales", device_id)
    [row] = (await view.get("/devices")).json["items"]
    assert row == {
        "device_id": str(device_id),
        "name": "Ada's iPhone",
        "serial": "C39X1",
        "udid": "0000-1111",
        "user": "ada@example.com",
        "model": "iPhone",
        "product": "iPhone14,5",
        "platform": "ios",
        "os_version": "17.4.1",
        "ownership": "corporate",
        "supervised": True,
        "status": "enrolled",
        "enrolled_at": "2026-06-01T12:00:00Z",
        "ended_at": None,
        "end_reason": None,
        "last_seen_at": "2026-06-01T12:00:00Z",
        "compliance": "not_evaluated",
        "certificate_until": None,
        "tags": ["eu", "field"],
        "groups": [{"group_id": str(group_id), "name": "Sales"}],
    }
    one = (await view.get(f"/devices/{device_id}")).json
    assert one.pop("as_of") == "2026-06-01T12:00:00Z"
    assert one == row


async def test_the_devices_own_word_is_newer_than_what_it_said_when_it_enrolled(
    view: Console,
) -> None:
    device_id = await view.device(name=None, os_version="17.4")
    await view.facts(
        device_id, device__name="Mine", os__version="17.10", device__model_name="iPhone SE"
    )
    [row] = (await view.get("/devices", q="mine", os="17.10")).json["items"]
    assert (row["name"], row["os_version"], row["model"]) == ("Mine", "17.10", "iPhone SE")
    await view.device(device_id, name="Given by a person", os_version="17.4")
    [row] = (await view.get("/devices", q="given")).json["items"]
    assert (row["name"], row["os_version"]) == ("Given by a person", "17.10")


async def test_what_is_only_heard_of_is_shown_nowhere(view: Console) -> None:
    await view.seen(uuid7())
    await view.facts(uuid7(), device__name="Shell")
    answer = (await view.get("/devices")).json
    assert (answer["items"], answer["total"]) == ([], {"count": 0, "exact": True})
    assert await view.names(q="shell") == []


async def test_an_older_state_changes_nothing(view: Console) -> None:
    device_id = uuid7()
    service = view.service
    await service.hears(state(device_id, name="new"), service="enrollment", sequence=10**9)
    await service.hears(state(device_id, name="old"), service="enrollment", sequence=10**9 - 1)
    assert await view.names() == ["new"]
    gone = state(device_id, deleted=True)
    await service.hears(gone, service="enrollment", sequence=10**9 - 1)
    assert await view.names() == ["new"]


async def test_a_deleted_device_is_gone_with_all_that_was_counted(view: Console) -> None:
    device_id, policy_id = await view.device(name="x"), uuid7()
    await view.verdict(device_id, policy_id, VerdictState.NONCOMPLIANT)
    await view.device(device_id, deleted=True)
    assert await view.names() == []
    assert await view.names(q="x") == []
    assert (await view.get(f"/devices/{device_id}")).status == 404
    found = await view.overview()
    assert found["counts"] == {}
    assert found["policies"] == [{"policy_id": str(policy_id), "name": "Baseline", "counts": {}}]


async def _mixed(view: Console, count: int = 40) -> None:
    """Devices of which many have no name, were never seen, or share what they have."""
    chance = random.Random(7)
    for number in range(count):
        device_id = await view.device(
            name=chance.choice([None, "same", f"n{chance.randrange(99):02}"]),
            serial=chance.choice([None, f"S{number}"]),
            user=chance.choice([None, "ada", "bob"]),
            model=chance.choice([None, "iPhone", "iPad"]),
            os_version=chance.choice([None, "17.4", "17.10", "9.3", "unknown"]),
            platform=chance.choice(list(Platform)),
            ownership=chance.choice(list(Ownership)),
            status=chance.choice(["pending", "enrolled", "quarantined", "ended"]),
            enrolled_at=chance.choice([None, START, START - timedelta(days=number)]),
        )
        if chance.random() < 0.5:
            await view.seen(device_id, timedelta(hours=chance.randrange(5)))
        if chance.random() < 0.5:
            until = START + timedelta(days=chance.randrange(3))
            event = CertificateIssued(
                device_id=device_id, sha256="ab", serial_number="1", not_after=until
            )
            await view.service.hears(event, service="enrollment")
        if chance.random() < 0.5:
            await view.verdict(device_id, UUID(int=1), chance.choice(list(VerdictState)))


_FIELDS = {
    "enrolled": "enrolled_at",
    "seen": "last_seen_at",
    "certificate": "certificate_until",
    "os": "os_version",
}


async def test_every_order_pages_there_and_back_over_each_device_once(view: Console) -> None:
    await _mixed(view)
    for sort in Sort:
        for descending in ("false", "true"):
            query: dict[str, Any] = {"sort": sort, "descending": descending}
            there, back = await view.walk(7, **query)
            ids = [row["device_id"] for row in there]
            assert (len(ids), len(set(ids))) == (40, 40), query
            assert back == there, query
            if sort not in {Sort.OS, Sort.COMPLIANCE, Sort.MODEL}:
                keys = [row[_FIELDS.get(sort, sort)] for row in there]
                valued = [key for key in keys if key is not None]
                assert keys == [*valued, *[None] * (40 - len(valued))], query
                assert valued == sorted(valued, reverse=descending == "true"), query


async def test_versions_sort_as_numbers(view: Console) -> None:
    for version in ("17.4", "17.10", "9.3", "17.4.1", None, "17"):
        await view.device(name=version, os_version=version)
    assert await view.names(sort="os") == ["9.3", "17", "17.4", "17.4.1", "17.10", None]
    assert await view.names(sort="os", os="17.4") == ["17.4", "17.4.1"]
    assert await view.names(sort="os", os="17") == ["17", "17.4", "17.4.1", "17.10"]
    assert await view.names(sort="os", os_below="17.4.1") == ["9.3", "17", "17.4"]
    assert (await view.get("/devices", os="latest")).json["code"] == "version_invalid"


async def test_the_worst_compliance_comes_first(view: Console) -> None:
    for verdict in ("compliant", "stale", "noncompliant", "error"):
        device_id = await view.device(name=verdict)
        await view.verdict(device_id, UUID(int=1), VerdictState(verdict))
    await view.device(name="not managed", status="ended")
    worst_first = ["noncompliant", "error", "stale", "compliant", "not managed"]
    assert await view.names(sort="compliance") == worst_first
    assert await view.names(compliance=["stale", "error"]) == ["error", "stale"]


async def test_filters_are_joined_by_and_and_their_values_by_or(view: Console) -> None:
    await view.device(name="a", platform=Platform.IOS, tags=["x", "y"], supervised=True)
    await view.device(name="b", platform=Platform.MACOS, tags=["y"], supervised=False)
    await view.device(name="c", platform=Platform.IPADOS, ownership=Ownership.PERSONAL)
    await view.device(name="d", platform=Platform.IOS, status="quarantined")
    assert await view.names(platform=["ios", "macos"]) == ["a", "b", "d"]
    assert await view.names(platform=["ios", "macos"], tag="y") == ["a", "b"]
    assert await view.names(tag="x") == ["a"]
    assert await view.names(ownership="personal") == ["c"]
    assert await view.names(status="quarantined") == ["d"]
    assert await view.names(supervised="true") == ["a"]
    assert await view.names(platform="windows") == []


async def test_when_a_device_was_seen_is_a_filter(view: Console) -> None:
    await view.seen(await view.device(name="now"))
    await view.seen(await view.device(name="three days"), timedelta(days=3))
    await view.seen(await view.device(name="two months"), timedelta(days=60))
    await view.device(name="zero")
    assert await view.names(seen="day") == ["now"]
    assert await view.names(seen="week") == ["now", "three days"]
    assert await view.names(seen="not_week") == ["two months", "zero"]
    assert await view.names(seen="never") == ["zero"]


async def test_a_policy_and_a_group_are_filters(view: Console) -> None:
    policy_id = uuid7()
    bad, good = await view.device(name="bad"), await view.device(name="good")
    await view.verdict(bad, policy_id, VerdictState.NONCOMPLIANT)
    await view.verdict(good, policy_id, VerdictState.COMPLIANT)
    group_id = await view.group("Sales", good)
    assert await view.names(failing=policy_id) == ["bad"]
    assert await view.names(group=group_id) == ["good"]
    assert await view.names(group=uuid7()) == []


async def test_search_finds_parts_of_words_and_beginnings(view: Console) -> None:
    await view.device(name="Ada's iPhone", serial="C39XK2", user="ada@example.com")
    await view.device(name="Böblingen 7", serial="F17PQ0", user="bob@example.com", udid="00AB-1")
    for text, found in {
        "iphone": ["Ada's iPhone"],
        "XK2": ["Ada's iPhone"],
        "9xk": ["Ada's iPhone"],
        "example bob": ["Böblingen 7"],
        "BÖBL": ["Böblingen 7"],
        "f1": ["Böblingen 7"],
        "7": ["Böblingen 7"],
        "b": ["Böblingen 7"],
        "example.com": ["Ada's iPhone", "Böblingen 7"],
        "ab-1": ["Böblingen 7"],
        "example ada bob": [],
        "dap": [],
        "100%": [],
        "_": [],
    }.items():
        assert await view.names(q=text) == found, text
    assert (await view.get("/devices", q="a b c d e f g h i")).json["code"] == "search_too_long"


async def test_search_is_the_same_when_very_many_are_found(
    view: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        odd = ["odd"] if number % 2 else []
        device_id = await view.device(name=f"phone {number}", serial=f"X{number}Y", tags=odd)
        if odd:
            await view.seen(device_id)
    for few, near in ((5, 1), (4, 5), (4, 1), (0, 3), (0, 0)):
        monkeypatch.setattr("services.console.store.view_lists.FEW", few)
        monkeypatch.setattr("services.console.store.view_lists.NEAR", near)
        assert len(await view.names(q="phone")) == 5
        assert await view.names(q="phone x3") == ["phone 3"]
        assert await view.names(q="phone", platform="macos") == []
        assert await view.names(q="phone", tag="odd") == ["phone 1", "phone 3"]
        assert await view.names(q="phone x3", tag="odd", sort="user") == ["phone 3"]
        assert await view.names(q="phone", tag="even") == []
        for order in ({}, {"sort": "seen"}, {"sort": "user"}, {"platform": "ios", "sort": "os"}):
            there, back = await view.walk(2, q="pho", **order)
            assert len(there) == 5, (few, near, order)
            assert back == there


async def test_a_renamed_device_is_found_by_its_new_name_only(view: Console) -> None:
    device_id = await view.device(name="before")
    await view.device(device_id, name="after")
    assert await view.names(q="before") == []
    assert await view.names(q="after") == ["after"]


async def test_the_length_of_a_list_is_told(view: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.console.views.queries.COUNTED", 2)
    for number in range(4):
        await view.device(name=str(number), tags=["t"] if number else ["u"])
    for query, total in (
        ({}, (4, True)),
        ({"status": "enrolled"}, (4, True)),
        ({"status": "ended"}, (0, True)),
        ({"tag": "t"}, (2, False)),
        ({"tag": "u"}, (1, True)),
    ):
        found = (await view.get("/devices", **query)).json["total"]
        assert (found["count"], found["exact"]) == total, query


@pytest.mark.parametrize("cursor", ["x", "W10", "WzEsMiwzXQ", "WyJuYW1lIiwgImEiLCAieCJd"])
async def test_a_foreign_cursor_is_refused(view: Console, cursor: str) -> None:
    answer = await view.get("/devices", cursor=cursor)
    assert (answer.status, answer.json["code"]) == (400, "bad_cursor")


async def test_a_cursor_of_another_order_is_refused(view: Console) -> None:
    for name in "ab":
        await view.device(name=name)
    cursor = (await view.get("/devices", limit=1)).json["next"]
    answer = await view.get("/devices", cursor=cursor, sort="seen")
    assert (answer.status, answer.json["code"]) == (400, "bad_cursor")


async def test_the_csv_is_the_whole_list_and_runs_nothing(
    view: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.console.views.queries._CHUNK", 3)
    for name in ('=HYPERLINK("x")', "+1", "-1", "@a", "plain, with comma", "9", "\tz"):
        await view.device(name=name, tags=["a", "b"], platform=Platform.MACOS)
    await view.device(name="other")
    answer = await view.get("/devices.csv", platform="macos")
    assert answer.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert sorted(row["name"] for row in rows) == sorted(
        ['\'=HYPERLINK("x")', "'+1", "'-1", "'@a", "plain, with comma", "9", "'\tz"]
    )
    assert {(row["tags"], row["status"], row["supervised"]) for row in rows} == {
        ("a; b", "enrolled", "")
    }


async def test_whoever_has_a_group_sees_its_devices_and_nothing_else(view: Console) -> None:
    mine, other = await view.device(name="mine"), await view.device(name="other")
    group_id, foreign = await view.group("Mine", mine), await view.group("Foreign", mine, other)
    await view.join(mine, group_id, foreign)
    policy_id = uuid7()
    await view.verdict(other, policy_id, VerdictState.NONCOMPLIANT)
    permissions = ["inventory.read", "compliance.read"]

    async def get(path: str) -> Any:
        return await view.scoped("GET", path, group_id, permissions)

    page = (await get("/devices")).json
    assert [row["name"] for row in page["items"]] == ["mine"]
    assert page["total"] == {"count": 1, "exact": True}
    assert page["items"][0]["groups"] == [{"group_id": str(group_id), "name": "Mine"}]
    for path in ("", "/verdicts", "/activity"):
        assert (await get(f"/devices/{mine}{path}")).status == 200, path
        assert (await get(f"/devices/{other}{path}")).status == 404, path
    for path in ("/devices?q=other", "/devices.csv", "/overview", "/activity"):
        answer = await get(path)
        assert answer.status == 200, path
        assert str(other) not in answer.text, path
        assert "other" not in answer.text.replace("{device}", ""), path
    assert (await get("/overview")).json["counts"]["status"] == {"enrolled": 1}


async def test_a_device_that_leaves_the_group_is_out_of_sight(view: Console) -> None:
    device_id = await view.device(name="x")
    group_id = await view.group("Mine")
    await view.join(device_id, group_id, sequence=10**9)
    await view.join(device_id, sequence=10**9 + 1)
    await view.join(device_id, group_id, sequence=10**9)
    answer = await view.scoped("GET", "/devices", group_id, ["inventory.read"])
    assert answer.json["items"] == []


@pytest.mark.parametrize("column", ["groups", "tags"])
async def test_whoever_asks_by_group_or_tag_uses_its_index(view: Console, column: str) -> None:
    """These indexes leave out devices without any: a condition says that it wants none of them."""
    filters = Filters(group=(uuid7(),)) if column == "groups" else Filters(tag=("field",))
    matching = conditions(filters, None, START)
    async with view.service.context.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off")
        statement = f"EXPLAIN SELECT device_id FROM device WHERE {matching.where}"
        plan = await connection.fetch(statement, *matching.values)
    assert f"device_{column}" in "\n".join(row[0] for row in plan)


@pytest.mark.parametrize("descending", [False, True])
async def test_the_order_of_last_seen_is_read_by_its_index(
    view: Console, *, descending: bool
) -> None:
    """Its time lies beside the device's row: a join must not cost the order (decision 66)."""
    plans: list[str] = []

    class Explaining:
        async def fetch(self, statement: str, *values: Any) -> list[Any]:
            rows = await connection.fetch(f"EXPLAIN {statement}", *values)
            plans.append("\n".join(row[0] for row in rows))
            return []

    async with view.service.context.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        await connection.execute("SET LOCAL enable_bitmapscan = off")
        order = Order(Sort.SEEN, descending, Place(START, uuid7()))
        explaining: Any = Explaining()
        await lists.page(explaining, conditions(Filters(), None, START), order, 51)
    for plan in plans:
        assert "device_seen_order" in plan
        assert "Sort" not in plan
    assert "ROW(device_seen.last_seen_at, device_seen.device_id)" in plans[0].replace(
        "ROW(last_seen_at, device_id)", "ROW(device_seen.last_seen_at, device_seen.device_id)"
    )


async def test_what_a_device_says_as_it_enrolled_is_no_news_to_search(view: Console) -> None:
    """A hundred grams would be put into their index again (decision 66)."""
    device_id = await view.device(name="Ada's", model="iPhone 15")
    written = "SELECT xmin::text FROM search WHERE device_id = $1"
    before = await view.service.context.pool.fetchval(written, device_id)
    await view.facts(device_id, device__model_name="iPhone 15", device__name="Ada's")
    assert await view.service.context.pool.fetchval(written, device_id) == before
    await view.facts(device_id, device__model_name="iPhone 16")
    assert await view.service.context.pool.fetchval(written, device_id) != before
    assert await view.names(q="16") == ["Ada's"]
