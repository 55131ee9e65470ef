"""The audit grows old: its beginning goes, people are erased, the console looks at it itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.console.app import SERVICE
from services.console.audit.erasing import erase
from services.console.audit.verifying import Report
from shared.bus import outbox
from shared.events.audit import AuditRecorded
from shared.runtime.clock import FixedClock
from shared.runtime.http import Caller
from shared.runtime.testing import trial
from tests.console.test_audit_exports import Record
from tools.embedded.testing import MakeDatabase

DAY = timedelta(days=1)


@pytest.fixture
async def record(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Record]:
    """Links are recorded by the database's clock, so the console's begins there."""
    dsn, clock = await make_database("console"), FixedClock(datetime.now(UTC))
    async with trial(SERVICE, dsn, tmp_path, clock=clock) as service:
        yield Record(service, clock)


async def _run(record: Record, job: str) -> None:
    await record.service.run_job(job)


async def _told(record: Record) -> list[AuditRecorded]:
    async with record.service.context.pool.acquire() as connection:
        events = await outbox.read(connection, "console")
    return [event for event in events if isinstance(event, AuditRecorded)]


async def _check(record: Record) -> dict[str, Any]:
    await _run(record, "check_audit")
    return dict(await record.service.context.pool.fetchrow("SELECT * FROM audit_check") or {})


async def _kept(record: Record) -> int:
    count: int = await record.service.context.pool.fetchval("SELECT count(*) FROM audit")
    return count


async def _old_and_new(record: Record) -> None:
    """Two weeks of entries, by a console whose clock runs ahead: nothing is written anew."""
    await record.grow(5)
    await record.grow(3, partition=1)
    await record.sign()
    await record.service.context.pool.execute(
        "UPDATE audit_chain SET recorded_at = recorded_at + interval '15 days'"
    )
    await record.grow(4)
    await record.sign()


async def _later(record: Record, days: int) -> None:
    record.clock.advance(timedelta(days=days))


async def test_old_weeks_go_when_a_root_says_so_and_the_rest_is_proven(record: Record) -> None:
    await _old_and_new(record)
    assert await _kept(record) == 12
    await _later(record, 400 + 9)
    await _run(record, "forget_audit")
    assert await _kept(record) == 12, "no root says yet that they go"
    report = await record.verified()
    assert (report.links, report.begun) == (12, 0)
    root = await record.sign()
    await _run(record, "forget_audit")
    assert await _kept(record) == 4
    report = await record.verified(root)
    assert (report.links, report.begun) == (4, 2)
    assert [(e.action, e.actor) for e in await _told(record)] == [
        ("audit.forget", "job:forget_audit")
    ]
    await record.grow(2)
    await record.grow(2, partition=1)
    assert (await record.verified(await record.sign())).links == 8


async def test_roots_over_what_is_gone_go_as_well(record: Record) -> None:
    await record.grow(2)
    await record.sign()
    await _old_and_new(record)
    await _later(record, 400 + 9)
    for _ in range(3):
        await _run(record, "forget_audit")
        await record.sign()
    roots = await record.service.context.pool.fetch("SELECT number FROM audit_root ORDER BY number")
    assert [row["number"] for row in roots] == [2, 3, 4, 5, 6]
    assert (await record.verified(await record.sign())).roots == 6


async def test_everything_may_go(record: Record) -> None:
    await _old_and_new(record)
    await _later(record, 400 + 30)
    await _run(record, "forget_audit")
    await record.sign()
    await _run(record, "forget_audit")
    assert await _kept(record) == 0
    report = await record.verified(await record.sign())
    assert (report.links, report.begun) == (0, 2)
    await record.grow(1)
    assert (await record.verified(await record.sign())).links == 1


async def test_what_was_erased_names_nobody_and_is_on_record(record: Record) -> None:
    await record.grow(3, actor="account:1", target="device 7")
    await record.grow(2, actor="account:2")
    root = await record.sign()
    pool, by = record.service.context.pool, Caller("cli:root", frozenset(), source="muster")
    count = await erase(pool, record.clock, by, "they asked for it", actor="account:1")
    assert count == 3
    assert await erase(pool, record.clock, by, "again", actor="account:1") == 0
    shown = (await record.service.call("GET", "/api/v1/console/audit")).json["items"]
    assert [row["erased"] for row in shown].count(True) == 3
    for row in shown:
        assert not row["erased"] or {row["actor"], row["target"], row["after"]} == {None}
        assert row["action"].startswith("act.")
    report: Report = await record.verified(root)
    assert (report.links, report.erased) == (5, 3)
    first, _ = await _told(record)
    assert (first.action, first.after, first.reason) == (
        "audit.erase",
        {"entries": 3},
        "they asked for it",
    )
    assert "account:1" not in first.model_dump_json()


async def test_the_console_looks_at_what_is_new_and_at_all_daily(record: Record) -> None:
    await record.grow(4)
    await record.sign()
    found = await _check(record)
    assert (found["root"], found["links"], found["fault"]) == (1, 4, None)
    await record.grow(3)
    await record.sign()
    await record.grow(1)
    found = await _check(record)
    assert (found["root"], found["links"], found["fault"]) == (2, 7, None)
    # What was looked at already is looked at again only after a day.
    await record.meddle("UPDATE audit SET actor = 'eve' WHERE position = 2")
    assert (await _check(record))["fault"] is None
    record.clock.advance(DAY)
    found = await _check(record)
    assert (found["fault_kind"], "content of Link 2" in found["fault"]) == ("changed", True)
    await record.meddle("UPDATE audit SET actor = 'ada' WHERE position = 2")
    found = await _check(record)
    assert (found["fault"], found["links"]) == (None, 7)


async def test_roots_of_a_foreign_key_are_a_fault(record: Record, tmp_path: Path) -> None:
    await record.grow(1)
    await record.sign()
    for path in (tmp_path / "public").glob("console-*.audit.pub"):
        path.unlink()
    assert (await _check(record))["fault"] is None, "no key is published: none can be compared"
    from_elsewhere = tmp_path / "public" / f"console-{'0' * 24}.audit.pub"
    token = next((tmp_path / "public").glob("console-*.token.pub"))
    from_elsewhere.write_bytes(token.read_bytes())
    record.clock.advance(DAY)
    assert (await _check(record))["fault_kind"] == "forged"
