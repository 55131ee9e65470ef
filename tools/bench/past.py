"""Years of finished commands, made by the database itself: their outcomes, keys and inbox rows.

What a device answered is kept as people may see it: here a SecurityInfo of an iPhone, so that a row
takes about 0.9 kB with its share of the indexes about 1 kB. Ten devices a command, spread evenly
over the days. Weeks are filled apart and attached, as PostgreSQL likes large loads.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from shared.db import partitions
from shared.events import registry
from tools.bench import silent
from tools.bench.meter import Admin

DAYS: Final = 400
SILENT: Final = 20_000
_A_COMMAND: Final = 10
_INBOX_DAYS: Final = 45
_KEY_DAYS: Final = 100
_STREAMS: Final = 2
ANALYZE: Final = "ANALYZE command, pending, target, device, enrollment, channel, pin, presence"
_WEEK: Final = 7

# A UUIDv7 of row `i` at `at`: its time, and what looks like chance.
ID: Final = """
(lpad(to_hex((extract(epoch FROM {at}) * 1000)::bigint), 12, '0') || '7'
 || substr(md5({i}::text), 1, 3) || '8' || substr(md5({i}::text), 4, 15))::uuid
"""
DEVICES = """
CREATE TABLE IF NOT EXISTS bench_device AS
SELECT row_number() OVER () - 1 AS place, device_id, channel_id, enrollment_id FROM channel
"""
PAST_COMMANDS = f"""
INSERT INTO {{table}}
SELECT {ID.format(at="at", i="i")}, 'inventory.refresh', 'SecurityInfo', 'security',
       'harmless', '{{{{"request_type": "SecurityInfo"}}}}', 'service:inventory', NULL, 'finished',
       NULL, 0, {_A_COMMAND}, at, at + interval '7 days', at + interval '1 hour', NULL, NULL,
       md5(i::text)
FROM (
    SELECT i, $1::timestamptz + ($2::timestamptz - $1) * (i::float8 / $3::int) AS at
    FROM generate_series(0, $3::int - 1) AS i
) AS made
"""
OUTCOMES = f"""
INSERT INTO {{table}} (
    command_id, channel_id, device_id, enrollment_id, generation, state, answer, answer_bytes,
    deliveries, deferrals, queued_at, finished_at
)
SELECT c.command_id, d.channel_id, d.device_id, d.enrollment_id, 1, 'acknowledged', $1::jsonb,
       length($1::text), 1, 0, c.created_at, c.created_at + interval '40 seconds'
FROM (
    SELECT command_id, created_at, row_number() OVER () - 1 AS place FROM {{commands}}
    WHERE command_id >= $2 AND command_id < $3
) AS c
CROSS JOIN generate_series(0, {_A_COMMAND - 1}) AS target
JOIN bench_device AS d
  ON d.place = (c.place * {_A_COMMAND} + target) % (SELECT count(*) FROM bench_device)
"""
KEYS = """
INSERT INTO request_key (actor, idempotency_key, command_id, digest)
SELECT actor, md5(command_id::text), command_id, decode(repeat(md5(command_id::text), 2), 'hex')
FROM past_command WHERE command_id >= $1
"""
INBOX = f"""
INSERT INTO inbox SELECT {ID.format(at="at", i="i")}
FROM (
    SELECT i, $1::timestamptz + ($2::timestamptz - $1) * (i::float8 / $3::int) AS at
    FROM generate_series(0, $3::int - 1) AS i
) AS made
"""
UPDATES = """
SELECT schemaname || '.' || relname AS name, round(n_tup_hot_upd::numeric / n_tup_upd, 3) AS share
FROM pg_stat_user_tables WHERE n_tup_upd >= 100 ORDER BY 1
"""
SIZES = """
SELECT sum(reltuples) FILTER (WHERE relname LIKE 'outcome_p%') AS outcomes,
       sum(reltuples) FILTER (WHERE relname LIKE 'past_command_p%') AS past_commands,
       sum(reltuples) FILTER (WHERE relname LIKE 'inbox_p%') AS inbox,
       count(*) FILTER (WHERE relname LIKE 'outcome_p%') AS partitions_of_outcome,
       round(sum(pg_total_relation_size(oid)) / 1e9, 1) AS gigabytes
FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
"""
FORGET_FLEET = """
SET search_path = muster_command_queue;
DELETE FROM device WHERE device_id IN (SELECT device_id FROM pin);
DELETE FROM channel WHERE device_id IN (SELECT device_id FROM pin);
DELETE FROM enrollment WHERE device_id IN (SELECT device_id FROM pin);
TRUNCATE pin, presence, pending, target, waiting, command, fence, outbox, dead_letter;
"""
# While nobody else is there: what was lost in a crash would be loaded again.
_HASTE: Final = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "maintenance_work_mem": "256MB",
}
_ANSWER: Final = {
    "SecurityInfo": {
        "HardwareEncryptionCaps": 3,
        "PasscodePresent": True,
        "PasscodeCompliant": True,
        "PasscodeCompliantWithProfiles": True,
        "PasscodeLockGracePeriod": 0,
        "PasscodeLockGracePeriodEnforced": 0,
        "AutoLockTime": 300,
        "ManagementStatus": {
            "EnrolledViaDEP": True,
            "IsUserEnrollment": False,
            "UserApprovedEnrollment": True,
            "IsActivationLockManageable": True,
        },
        "FirewallSettings": {"FirewallEnabled": True, "BlockAllIncoming": False},
        "SecureBoot": {
            "SecureBootLevel": "full",
            "ExternalBootLevel": "disallowed",
            "WindowsBootLevel": "not supported",
            "ReducedSecurity": {"AllowsAnyAppleSignedOS": False, "AllowsMDM": False},
        },
    }
}


@dataclass(frozen=True)
class Week:
    """One partition of each table, and how many commands of the load fall into it."""

    low: datetime
    high: datetime
    commands: int

    @property
    def suffix(self) -> str:
        return f"p{self.low:%Y%m%d}"


def weeks(outcomes: int, now: datetime) -> list[Week]:
    """The weeks of the past, the last one up to an hour ago, with their shares of the commands."""
    begin, end = now - timedelta(days=DAYS), now - timedelta(hours=1)
    found = list(partitions.spans(begin, end, _WEEK))
    first = found[0][0]
    commands = max(1, outcomes // _A_COMMAND)
    return [
        Week(
            low,
            min(high, end),
            int(commands * ((min(high, end) - first) / (end - first)))
            - int(commands * ((low - first) / (end - first))),
        )
        for low, high in found
    ]


async def settle_in(connection: Admin) -> None:
    """Make the silent devices, the same in an empty database as in a full one."""
    if await connection.fetchval("SELECT count(*) FROM device") < SILENT:
        await silent.add(connection, SILENT)


async def fill(dsn: str, outcomes: int, *, streams: int = _STREAMS) -> None:
    """Load so many outcomes with all that belongs to them; `dsn` is command_queue's."""
    now = datetime.now(UTC)
    async with _connected(dsn) as connection:
        await settle_in(connection)
        await connection.execute(DEVICES)
        await connection.execute("ANALYZE bench_device")
        for table in ("outcome", "past_command", "inbox"):
            behind = _INBOX_DAYS if table == "inbox" else 0
            async with connection.transaction():
                await partitions.ensure(connection, table, days_behind=behind)
    waiting = weeks(outcomes, now)
    await asyncio.gather(*(_fill_weeks(dsn, waiting) for _ in range(streams)))
    async with _connected(dsn) as connection:
        events = outcomes * _INBOX_DAYS // DAYS
        await connection.execute(INBOX, now - timedelta(days=_INBOX_DAYS), now, events)
        await connection.execute(KEYS, partitions.bound(now - timedelta(days=_KEY_DAYS)))
        await connection.execute("VACUUM (FREEZE, ANALYZE) inbox, request_key")
        await connection.execute("DROP TABLE bench_device")
        await connection.execute(ANALYZE)


async def _fill_weeks(dsn: str, waiting: list[Week]) -> None:
    async with _connected(dsn) as connection:
        while waiting:
            await _fill_week(connection, waiting.pop())


async def _fill_week(connection: Admin, week: Week) -> None:
    """Fill a week that has no partitions yet in tables of its own; the present one in place."""
    tables = [f"{table}_{week.suffix}" for table in ("past_command", "outcome")]
    exists = await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", tables[1])
    low, high = partitions.bound(week.low), partitions.bound(week.high)
    async with connection.transaction():
        for parent, table in zip(("past_command", "outcome"), tables, strict=True):
            if not exists:
                await connection.execute(
                    f"CREATE TABLE {table} (LIKE {parent} INCLUDING ALL EXCLUDING INDEXES)"
                )
        await connection.execute(
            PAST_COMMANDS.format(table=tables[0]), week.low, week.high, week.commands
        )
        await connection.execute(
            OUTCOMES.format(table=tables[1], commands=tables[0]), json.dumps(_ANSWER), low, high
        )
        for parent, table in zip(("past_command", "outcome"), tables, strict=True):
            if not exists:
                await connection.execute(
                    f"ALTER TABLE {parent} ATTACH PARTITION {table}"
                    f" FOR VALUES FROM ('{low}') TO ('{high}')"
                )
    await connection.execute(f"VACUUM (FREEZE, ANALYZE) {', '.join(tables)}")


async def hasten(admin: Admin) -> None:
    """Set what makes loads quick; it holds after the next start of the server."""
    for name, value in _HASTE.items():
        await admin.execute(f"ALTER SYSTEM SET {name} = '{value}'")


async def calm_down(admin: Admin) -> None:
    """Back to how the server is shipped, from the next start on."""
    await admin.execute("ALTER SYSTEM RESET ALL")
    await admin.execute("CHECKPOINT")


async def forget_others(admin: Admin) -> None:
    """Leave nothing but command_queue's history and the silent devices."""
    for service in registry.SERVICES:
        if service != "command_queue":
            await admin.execute(f"DROP SCHEMA IF EXISTS muster_{service} CASCADE")
    await admin.execute(FORGET_FLEET)


async def sizes(connection: Admin) -> dict[str, float | int]:
    """What the history is: rows as last analysed, and gigabytes of all of the schema's tables."""
    row = await connection.fetchrow(SIZES)
    return {} if row is None else {name: float(value) for name, value in row.items()}


async def updates_in_place(admin: Admin) -> dict[str, float]:
    """Which share of the updates of each table stayed in its page and touched no index (HOT)."""
    rows = await admin.fetch(UPDATES)
    return {row["name"]: float(row["share"]) for row in rows}


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Admin]:
    """A connection that may take its time."""
    patient = {
        "statement_timeout": "0",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "synchronous_commit": "off",
        "work_mem": "64MB",
    }
    connection = await asyncpg.connect(dsn, server_settings=patient)
    try:
        yield connection
    finally:
        await connection.close()
