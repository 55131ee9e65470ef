"""Signed roots: one a minute over all chains, chained to each other, told outside."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.console.app import SERVICE
from services.console.audit.canonical import NOTHING, Head, Root, heads_hash
from services.console.audit.roots import Roots
from services.console.webhooks.keeping import OFFERED
from shared.bus import outbox
from shared.events.audit import AuditRootSigned
from shared.runtime.clock import FixedClock
from shared.runtime.logs import JsonFormatter
from shared.runtime.testing import Trial, trial
from shared.sealed import audit_key, ensure_service_keys, rotate_service_keys, token_key
from tests.console.auditing import did, hear, told
from tools.embedded.testing import MakeDatabase

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
async def service(
    make_database: MakeDatabase, tmp_path: Path, clock: FixedClock
) -> AsyncIterator[Trial]:
    dsn = await make_database("console")
    async with trial(SERVICE, dsn, tmp_path, clock=clock) as running:
        yield running


async def _told(service: Trial) -> list[AuditRootSigned]:
    async with service.context.pool.acquire() as connection:
        events = await outbox.read(connection, "console")
    return [event for event in events if isinstance(event, AuditRootSigned)]


async def _heads(service: Trial) -> list[Head]:
    rows = await service.context.pool.fetch(
        "SELECT topic, partition_number, first, position, hash FROM audit_chain WHERE position > 0"
    )
    return [Head(row[0], row[1], row[2], row[3], row[4].hex()) for row in rows]


async def test_a_root_covers_all_heads_and_the_root_before(
    service: Trial, clock: FixedClock, tmp_path: Path
) -> None:
    await hear(service, told(did("a"), did("b")) + told(did("c"), partition=1))
    await service.run_job("sign_audit_root")
    first_heads = heads_hash(await _heads(service))
    clock.advance(MINUTE)
    await hear(service, told(did("d")))
    await service.run_job("sign_audit_root")
    first, second = await _told(service)
    assert (first.number, first.previous, first.heads) == (1, NOTHING, first_heads)
    assert (first.chains, first.links, second.links) == (2, 3, 4)
    assert (second.number, second.heads) == (2, heads_hash(await _heads(service)))
    assert second.previous == Root.read(first.model_dump()).hash
    key_id, key = audit_key(tmp_path / "console")
    for event in (first, second):
        assert event.key_id == key_id
        statement = Root.read(event.model_dump()).statement
        key.public_key().verify(bytes.fromhex(event.signature), statement)


async def test_only_heads_that_moved_are_kept_again(service: Trial, clock: FixedClock) -> None:
    await hear(service, told(did("a")) + told(did("b"), partition=1))
    await service.run_job("sign_audit_root")
    clock.advance(MINUTE)
    await hear(service, told(did("c")))
    await service.run_job("sign_audit_root")
    kept = await service.context.pool.fetch(
        "SELECT number, position FROM audit_root_head ORDER BY number, chain_id"
    )
    assert [tuple(row) for row in kept] == [(1, 1), (1, 1), (2, 2)]


async def test_one_a_minute_however_many_sign(
    service: Trial, clock: FixedClock, tmp_path: Path
) -> None:
    async def ten() -> None:
        signers = (Roots(service.context.pool, tmp_path, clock) for _ in range(10))
        await asyncio.gather(*(one.sign() for one in signers))

    await ten()
    clock.advance(timedelta(seconds=30))
    await ten()
    clock.advance(timedelta(seconds=29))  # a timer is not exact
    await ten()
    assert [event.number for event in await _told(service)] == [1, 2]


async def test_a_silent_minute_has_a_root_as_well(service: Trial, clock: FixedClock) -> None:
    """It proves that nothing was there to be cut off."""
    await service.run_job("sign_audit_root")
    clock.advance(MINUTE)
    await service.run_job("sign_audit_root")
    assert [(e.number, e.chains, e.links) for e in await _told(service)] == [(1, 0, 0), (2, 0, 0)]


async def test_a_clock_that_goes_back_makes_no_root_older_than_the_last(
    service: Trial, clock: FixedClock, tmp_path: Path
) -> None:
    await service.run_job("sign_audit_root")
    past = FixedClock(NOW - timedelta(days=1))
    await Roots(service.context.pool, tmp_path, past).sign()
    assert len(await _told(service)) == 1


async def test_the_key_is_its_own_and_old_ones_stay_known(
    service: Trial, clock: FixedClock, tmp_path: Path
) -> None:
    made, _ = audit_key(tmp_path / "console")
    old = f"{0:08x}{made[8:]}"  # ids begin with the time, to the second
    folder = tmp_path / "console"
    (folder / f"{made}.audit.key").rename(folder / f"{old}.audit.key")
    ensure_service_keys(tmp_path, "console")
    await service.run_job("sign_audit_root")
    _, key = audit_key(folder)
    _, token = token_key(folder)
    assert key.private_bytes_raw() != token.private_bytes_raw()
    for _ in range(3):
        rotate_service_keys(tmp_path, "console")
    clock.advance(MINUTE)
    await service.run_job("sign_audit_root")
    first, second = await _told(service)
    assert first.key_id == old != second.key_id
    assert (tmp_path / "public" / f"console-{old}.audit.pub").exists()
    kept = await service.context.pool.fetch("SELECT key_id, public_key FROM audit_key")
    public = {row["key_id"]: Ed25519PublicKey.from_public_bytes(row["public_key"]) for row in kept}
    for event in (first, second):
        statement = Root.read(event.model_dump()).statement
        public[event.key_id].verify(bytes.fromhex(event.signature), statement)


async def test_the_log_line_has_the_whole_root(
    service: Trial, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "services.console.audit.roots"):
        await service.run_job("sign_audit_root")
    [record] = [one for one in caplog.records if one.message == "Audit root"]
    line = orjson.loads(JsonFormatter().format(record))
    [event] = await _told(service)
    assert orjson.loads(line["root"]) == event.model_dump()


def test_webhooks_may_hear_of_roots_with_the_audits_permission() -> None:
    assert OFFERED[AuditRootSigned.TYPE].permission == "audit.read"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE audit_root SET links = 7", True),
        ("UPDATE audit_root SET signature = '\\x00'", True),
        ("UPDATE audit_root SET number = 7", False),  # older ones are kept no more
        ("SELECT 1", False),
    ],
)
async def test_a_root_that_was_told_otherwise_is_noticed(
    service: Trial, caplog: pytest.LogCaptureFixture, change: str, said: Any
) -> None:
    await service.run_job("sign_audit_root")
    [event] = await _told(service)
    await service.context.pool.execute(change)
    again = AuditRootSigned(**event.model_dump())
    await service.hears(again, service="console")
    assert ("it was rewritten" in caplog.text) is said
