"""Exports: whole chains under their roots, and what the database's owner does to them is found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.console.app import SERVICE
from services.console.audit import exporting
from services.console.audit.verifying import Broken, Report, Told, verify
from shared.bus import outbox
from shared.events.audit import AuditRootSigned
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Trial, trial
from shared.sealed import audit_key
from tests.console.auditing import did, hear, told
from tools.embedded.testing import MakeDatabase

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EXPORT = "/api/v1/console/audit/export"
INVENTORY = "muster.audit.inventory.v1"


@dataclass
class Record:
    """A console whose audit grows, and what others heard of it."""

    service: Trial
    clock: FixedClock

    async def grow(self, count: int = 6, *, partition: int = 0, **more: Any) -> None:
        events = [did(f"act.{n}", reason=f"secret {n}", **more) for n in range(count)]
        await hear(self.service, told(*events, partition=partition))

    async def sign(self) -> Told:
        """A minute passes, and a root is told."""
        self.clock.advance(MINUTE)
        await self.service.run_job("sign_audit_root")
        async with self.service.context.pool.acquire() as connection:
            events = await outbox.read(connection, "console")
        roots = [event for event in events if isinstance(event, AuditRootSigned)]
        return Told.read(roots[-1].model_dump_json())

    async def export(self, query: str = "") -> list[bytes]:
        answer = await self.service.call("GET", EXPORT + query)
        assert answer.status == 200, answer.text
        assert answer.headers["Content-Disposition"] == 'attachment; filename="audit.jsonl"'
        return answer.body.splitlines(keepends=True)

    async def verified(self, *roots: Told, query: str = "") -> Report:
        return verify(await self.export(query), roots)

    async def broken(self, *roots: Told) -> Broken:
        with pytest.raises(Broken) as found:
            await self.verified(*roots)
        return found.value

    async def meddle(self, *statements: str) -> None:
        """What somebody does who owns the database."""
        async with self.service.context.pool.acquire() as connection, connection.transaction():
            await connection.execute("ALTER TABLE audit DISABLE TRIGGER audit_only_grows")
            for statement in statements:
                assert await connection.execute(statement) != "UPDATE 0"
            await connection.execute("ALTER TABLE audit ENABLE TRIGGER audit_only_grows")


@pytest.fixture
async def record(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Record]:
    dsn, clock = await make_database("console"), FixedClock(NOW)
    async with trial(SERVICE, dsn, tmp_path, clock=clock) as service:
        yield Record(service, clock)


async def test_an_export_holds_together(record: Record, tmp_path: Path) -> None:
    await record.grow()
    await record.grow(3, partition=1)
    first = await record.sign()
    await record.grow(4)
    second = await record.sign()
    await record.grow(2)
    report = await record.verified(first, second)
    assert (report.links, report.roots, report.after, report.begun) == (15, 2, 2, 0)
    assert report.chains == {(INVENTORY, 0), (INVENTORY, 1)}
    key_id, key = audit_key(tmp_path / "console")
    assert report.keys == {key_id: key.public_key().public_bytes_raw().hex()}


async def test_an_export_longer_than_its_pieces(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_CHUNK", 7)
    monkeypatch.setattr(exporting, "_ROOTS", 3)
    for number in range(10):
        for partition in range(number % 4):
            await record.grow(5 * number, partition=partition)
        await record.sign()
    await record.grow(50)
    last = await record.sign()
    await record.grow(1)
    report = await record.verified(last)
    assert (report.roots, report.after) == (11, 1)
    assert report.links == 51 + sum(5 * n * (n % 4) for n in range(10))


async def test_nothing_at_all_is_an_export_too(record: Record) -> None:
    report = await record.verified()
    assert (report.links, report.roots, report.last) == (0, 0, None)
    root = await record.sign()
    assert (await record.verified(root)).roots == 1


async def test_an_export_of_a_span_begins_and_ends_with_roots(record: Record) -> None:
    for _ in range(5):
        await record.grow(2)
        await record.grow(1, partition=1)
        await record.sign()
    last = await record.sign()
    since = (NOW + 2 * MINUTE).strftime("%Y-%m-%dT%H:%M:%SZ")
    until = (NOW + 4 * MINUTE).strftime("%Y-%m-%dT%H:%M:%SZ")
    report = await record.verified(query=f"?since={since}&until={until}")
    assert report.first
    assert report.last
    assert (report.first.number, report.last.number, report.links) == (2, 4, 6)
    assert (report.begun, report.after) == (2, 0)
    report = await record.verified(last, query=f"?since={since}")
    assert report.links == 9


async def test_a_filtered_export_has_all_links_and_little_content(record: Record) -> None:
    await record.grow(3)
    await record.grow(2, actor="eve")
    root = await record.sign()
    lines = await record.export("?actor=eve")
    assert b"secret" in b"".join(lines)
    shown = [one for one in map(orjson.loads, lines) if "entry" in one]
    assert [one["entry"]["actor"] for one in shown] == ["eve", "eve"]
    report = verify(lines, [root])
    assert (report.links, report.withheld) == (5, 3)


async def test_content_may_not_be_withheld_from_a_whole_export(record: Record) -> None:
    await record.grow(3)
    root = await record.sign()
    lines = await record.export("?actor=eve")
    head = orjson.loads(lines[0]) | {"filters": {}}
    with pytest.raises(Broken, match="content of Link 1") as found:
        verify([orjson.dumps(head), *lines[1:]], [root])
    assert found.value.kind == "changed"


AT_4 = f"position = 4 AND chain_id = (SELECT chain_id FROM audit_chain WHERE topic = '{INVENTORY}')"
SWAP = (
    "UPDATE audit SET position = CASE position WHEN 3 THEN -4 ELSE 3 END WHERE position IN (3, 4)",
    "UPDATE audit SET position = 4 WHERE position = -4",
)
COPY = (
    "INSERT INTO audit SELECT (jsonb_populate_record(audit, jsonb_build_object("
    "'recorded_at', recorded_at + interval '1 microsecond', 'actor', 'eve'))).* FROM audit "
    f"WHERE {AT_4}"
)
Meddling = tuple[str, ...]


@pytest.mark.parametrize(
    ("meddling", "kind", "named"),
    [
        ((f"UPDATE audit SET actor = 'eve' WHERE {AT_4}",), "changed", "content of Link 4"),
        ((f"UPDATE audit SET before = '{{}}' WHERE {AT_4}",), "changed", "content of Link 4"),
        ((f"UPDATE audit SET action = 'x' WHERE {AT_4}",), "changed", "Link 4"),
        ((f"UPDATE audit SET occurred_at = now() WHERE {AT_4}",), "changed", "Link 4"),
        ((f"UPDATE audit SET record_offset = 1 WHERE {AT_4}",), "changed", "Link 4"),
        ((f"UPDATE audit SET hash = '\\x00' WHERE {AT_4}",), "changed", "Link 4"),
        ((f"DELETE FROM audit WHERE {AT_4}",), "dropped", "Link 4"),
        (("DELETE FROM audit WHERE position >= 4",), "cut_off", "Link 4"),
        (("DELETE FROM audit WHERE position <= 3",), "dropped", "Link 1"),
        ((COPY,), "inserted", "Link 4"),
        (SWAP, "changed", "Link 3"),
        (("UPDATE audit_root SET links = 3",), "forged", "root 1"),
        (("UPDATE audit_root SET signed_at = signed_at - interval '1 day'",), "forged", "root 1"),
        (("DELETE FROM audit_root",), "cut_off", "Root 1"),
        (("UPDATE audit_root_head SET position = 5",), "changed", "Link 5"),
        (("DELETE FROM audit_root_head", "DELETE FROM audit"), "cut_off", "Root 1"),
        (("DELETE FROM audit_root_head",), "forged", "Root 1"),
        (
            ("DELETE FROM audit WHERE position <= 3", "UPDATE audit_chain SET first = 4"),
            "dropped",
            "Link 1",
        ),
        (
            ("DELETE FROM audit WHERE position <= 3", "UPDATE audit_root_head SET first = 4"),
            "forged",
            "Root 1",
        ),
        (("UPDATE audit_root_head SET hash = '\\x00'",), "changed", "Link 6"),
    ],
)
async def test_what_the_owner_of_the_database_does_is_named(
    record: Record, meddling: Meddling, kind: str, named: str
) -> None:
    await record.grow(6)
    root = await record.sign()
    await record.verified(root)
    await record.meddle(*meddling)
    found = await record.broken(root)
    assert (found.kind, named.lower() in found.detail.lower()) == (kind, True), found.detail


async def test_an_audit_that_was_written_anew_has_other_roots(
    record: Record,
) -> None:
    """Somebody who holds the database and the key as well cannot take back what was told."""
    await record.grow(6)
    root = await record.sign()
    tables = "audit_chain, audit_root, audit_root_head, inbox, outbox"
    await record.meddle("DELETE FROM audit", f"TRUNCATE {tables}")
    await record.grow(6, actor="nobody")
    await record.sign()
    await record.verified()
    found = await record.broken(root)
    assert (found.kind, "rewritten" in found.detail) == ("forged", True)


async def test_what_is_erased_leaves_everything_proven(record: Record) -> None:
    await record.grow(6)
    root = await record.sign()
    empty = ", ".join(
        f"{name} = NULL"
        for name in (
            *("salt", "audit_id", "actor", "target", "before", "after", "reason", "source"),
            *("via", "correlation_id"),
        )
    )
    erase = f"UPDATE audit SET {empty}, erased_at = now() WHERE position IN (2, 3)"
    assert await record.service.context.pool.execute(erase) == "UPDATE 2"
    report = await record.verified(root)
    assert (report.links, report.erased) == (6, 2)
    assert b"secret 1" not in b"".join(await record.export())


@pytest.mark.parametrize("cut", [1, 4])
async def test_a_file_that_did_not_arrive_whole_is_no_evidence(record: Record, cut: int) -> None:
    await record.grow(3)
    await record.sign()
    await record.grow(3)
    lines = await record.export()
    with pytest.raises(Broken) as found:
        verify(lines[:-cut])
    assert found.value.kind == "cut_off"


async def test_exporting_takes_the_permission(record: Record) -> None:
    answer = await record.service.call("GET", EXPORT, permissions=["audit.write"])
    assert answer.status == 403
