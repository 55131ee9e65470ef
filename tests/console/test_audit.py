"""The audit: chains that only grow, one writer each, and finding what somebody did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from services.console.app import SERVICE
from services.console.audit.canonical import NOTHING, Content, Link, instant
from shared.bus.testing import travelled
from shared.events.base import uuid7, uuid7_time
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Trial, trial
from tests.console.auditing import did, hear, told
from tools.embedded.testing import MakeDatabase

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PATH = "/api/v1/console/audit"


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    dsn = await make_database("console")
    async with trial(SERVICE, dsn, tmp_path, clock=FixedClock(NOW)) as running:
        yield running


async def _rows(service: Trial) -> list[dict[str, Any]]:
    statement = (
        "SELECT audit.*, topic, partition_number FROM audit JOIN audit_chain USING (chain_id) "
        "ORDER BY topic, partition_number, audit.position"
    )
    return [dict(row) for row in await service.context.pool.fetch(statement)]


def _link(row: dict[str, Any]) -> Link:
    named = ("actor", "target", "before", "after", "reason", "source", "via", "correlation_id")
    content = Content(
        salt=row["salt"].hex(), audit_id=str(row["audit_id"]), **{name: row[name] for name in named}
    )
    return Link(
        row["topic"],
        row["partition_number"],
        row["position"],
        row["record_offset"],
        row["previous"].hex(),
        instant(row["recorded_at"]),
        str(row["event_id"]),
        instant(row["occurred_at"]),
        row["action"],
        row["permission"],
        content.hash,
    )


async def test_each_partition_has_a_chain_and_its_rows_give_the_hashes(service: Trial) -> None:
    await hear(service, told(did("a", target="same"), did("b", target="same"), did("c")))
    await hear(service, told(did("d"), partition=1) + told(did("e"), did("f", reason="därför")))
    await hear(service, told(did("g"), service="enrollment"))
    previous: dict[tuple[str, int], str] = {}
    actions: dict[tuple[str, int], str] = {}
    for row in await _rows(service):
        link = _link(row)
        assert link.previous == previous.get(link.key, NOTHING)
        assert link.hash == row["hash"].hex()
        previous[link.key] = link.hash
        actions[link.key] = actions.get(link.key, "") + link.action
    assert actions == {
        ("muster.audit.enrollment.v1", 0): "g",
        ("muster.audit.inventory.v1", 0): "abcef",
        ("muster.audit.inventory.v1", 1): "d",
    }


async def test_what_is_told_again_makes_no_second_link(service: Trial) -> None:
    one, two, three = told(did("a"), did("b"), did("c"))
    await hear(service, [one, two])
    await hear(service, [one, two, three])
    await hear(service, [three])
    rows = await _rows(service)
    assert [(row["action"], row["position"]) for row in rows] == [("a", 1), ("b", 2), ("c", 3)]


async def test_two_writers_after_a_rebalance_make_one_chain(service: Trial) -> None:
    """The old owner of a partition still works on what the new one has read again."""
    batches = [told(*(did(f"{n}.{m}") for m in range(20))) for n in range(12)]
    overlapping = [[*batches[n], *batches[(n + 1) % 12]] for n in range(12)]
    await asyncio.gather(*(hear(service, one) for one in [*overlapping, *batches]))
    rows = await _rows(service)
    assert [row["position"] for row in rows] == list(range(1, 241))
    previous = NOTHING
    for row in rows:
        link = _link(row)
        assert (link.previous, link.hash) == (previous, row["hash"].hex())
        previous = link.hash


async def test_offsets_may_be_missing_and_late(service: Trial) -> None:
    """Marks of transactions take offsets; a dead letter is replayed long after."""
    await hear(service, told(did("a"), first=100))
    await hear(service, told(did("b"), first=105))
    await hear(service, told(did("late"), first=103))
    found = [(row["action"], row["record_offset"]) for row in await _rows(service)]
    assert found == [("a", 100), ("b", 105), ("late", 103)]


async def test_what_postgresql_cannot_keep_is_on_record_all_the_same(service: Trial) -> None:
    await hear(service, told(did("a", target="x\0y", after={"name": "x\0y", "n": 1e300})))
    [row] = (await service.call("GET", PATH)).json["items"]
    assert row["target"] == "x\N{REPLACEMENT CHARACTER}y"
    assert row["after"] == {"name": "x\0y", "n": 1e300}


async def test_the_audit_of_every_service_is_listed_newest_first(service: Trial) -> None:
    for number in range(5):
        await hear(service, told(did(f"a{number}", target=f"t{number}")))
        await asyncio.sleep(0.002)  # ids of one millisecond have no order
    await hear(service, told(did("b", actor="bob"), service="enrollment"))
    first = (await service.call("GET", f"{PATH}?limit=4")).json
    assert [row["action"] for row in first["items"]] == ["b", "a4", "a3", "a2"]
    assert first["items"][0]["service"] == "enrollment"
    assert first["items"][0]["after"] == {"n": 1}
    rest = await service.call("GET", f"{PATH}?limit=4&cursor={first['next']}")
    assert [row["action"] for row in rest.json["items"]] == ["a1", "a0"]
    assert rest.json["next"] is None


async def test_it_is_searched_by_each_and_by_all(service: Trial) -> None:
    one, two = told(did("lock", "ada", "x"), did("erase", "ada", "y"))
    [three] = told(did("lock", "bob", "y"), service="enrollment")
    await hear(service, [one, two])
    await hear(service, [three])

    async def found(query: str) -> set[UUID]:
        answer = await service.call("GET", f"{PATH}?{query}")
        return {UUID(row["event_id"]) for row in answer.json["items"]}

    first, second, third = (event.meta.event_id for event in (one, two, three))
    assert await found("actor=ada") == {first, second}
    assert await found("action=lock") == {first, third}
    assert await found("target=y") == {second, third}
    assert await found("service=enrollment") == {third}
    assert await found(f"correlation_id={two.meta.correlation_id}") == {second}
    assert await found("actor=ada&action=lock&target=x") == {first}
    assert await found("actor=ada&service=enrollment") == set()


async def test_it_is_searched_by_time(service: Trial) -> None:
    arrived = told(did("a"))
    await hear(service, arrived)
    at = uuid7_time(arrived[0].meta.event_id)

    async def count(**bounds: datetime) -> int:
        query = "&".join(f"{n}={v.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}" for n, v in bounds.items())
        return len((await service.call("GET", f"{PATH}?{query}")).json["items"])

    second = timedelta(seconds=1)
    assert await count(since=at, until=at + second) == 1
    assert await count(since=at + second) == 0
    assert await count(until=at) == 0
    assert await count(until=at + second) == 1


async def test_one_entry_has_its_place_in_the_chain(service: Trial) -> None:
    arrived = told(did("a"), did("b"))
    await hear(service, arrived)
    shown = (await service.call("GET", f"{PATH}/entries/{arrived[1].meta.event_id}")).json
    place = (shown["topic"], shown["partition"], shown["position"], shown["offset"])
    assert place == ("muster.audit.inventory.v1", 0, 2, arrived[1].place.offset)
    assert (await service.call("GET", f"{PATH}/entries/{uuid7()}")).status == 404


@pytest.mark.parametrize("cursor", ["x", "W10", "WzFd", "WyJhIl0"])
async def test_a_foreign_cursor_is_refused(service: Trial, cursor: str) -> None:
    answer = await service.call("GET", f"{PATH}?cursor={cursor}")
    assert (answer.status, answer.json["code"]) == (400, "bad_cursor")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'x'",
        "UPDATE audit SET salt = NULL, actor = NULL",
        "DELETE FROM audit",
        "TRUNCATE audit",
    ],
)
async def test_the_audit_is_not_changed_by_mistake(service: Trial, statement: str) -> None:
    await hear(service, told(did("a")))
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only added to"):
        await service.context.pool.execute(statement)


async def test_reading_the_audit_needs_the_permission(service: Trial) -> None:
    assert (await service.call("GET", PATH, permissions=["audit.read"])).status == 200
    refused = await service.call("GET", PATH, permissions=["device.read"])
    assert (refused.status, refused.json["code"]) == (403, "permission_missing")
    group = {uuid7(): ["audit.read"]}
    refused = await service.call("GET", PATH, permissions=[], groups=group)
    assert (refused.status, refused.json["code"]) == (403, "permission_on_all_missing")


async def test_an_event_of_a_test_has_a_place_as_well(service: Trial) -> None:
    await hear(service, travelled(did("a"), service="inventory"))
    assert len(await _rows(service)) == 1
