"""The services that pages of the console ask: real ones, their tables filled by PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg

from services.command_queue.app import SERVICE as COMMAND_QUEUE
from services.compliance.app import SERVICE as COMPLIANCE
from services.compliance.policies import Definition
from services.enrollment.app import SERVICE as ENROLLMENT
from services.inventory.app import SERVICE as INVENTORY
from services.push_notifier.app import SERVICE as PUSH_NOTIFIER
from shared.db import partitions
from shared.events import uuid7
from shared.runtime.service import Service
from shared.runtime.testing import trial
from tools.bench.console_fleet import POLICIES, SMALL_GROUP, Fleet
from tools.bench.meter import Admin
from tools.bench.past import ID

SERVICES: Final[Mapping[str, Service[Any]]] = {
    one.name: one for one in (COMMAND_QUEUE, COMPLIANCE, ENROLLMENT, INVENTORY, PUSH_NOTIFIER)
}
DAYS: Final = 400
PAST: Final = 500_000
HELD: Final = 300
GUESTS: Final = 2000
CREDENTIALS: Final = 200
ACTOR: Final = "account:00000000-0000-7000-8000-000000000001"
_SUMMARY: Final = '{"request_type": "SecurityInfo"}'

QUEUE_DEVICES = """
INSERT INTO device (device_id, known, sequence, platform)
SELECT device_id, true, 1, 'ios' FROM unnest($1::uuid[]) AS made (device_id)
"""
SCOPES = """
INSERT INTO device_scope (device_id, sequence, groups)
SELECT device_id, 1, groups::uuid[] FROM unnest($1::uuid[], $2::text[]) AS made (device_id, groups)
"""
# Services ask for most; of a fiftieth people do, and of each hundredth somebody with one group.
PAST_COMMANDS = f"""
INSERT INTO past_command (command_id, kind, request_type, command_class, summary, actor, state,
                          priority, target_count, created_at, expires_at, ended_at, reach)
SELECT {ID.format(at="at", i="i")},
       CASE WHEN i % 50 = 0 THEN 'device.lock' ELSE 'inventory.refresh' END, 'SecurityInfo',
       'harmless', '{_SUMMARY}', CASE WHEN i % 50 = 0 THEN '{ACTOR}' ELSE 'service:inventory' END,
       CASE WHEN i % 1000 = 0 THEN 'cancelled' ELSE 'finished' END, 0, 1, at,
       at + interval '7 days', at + interval '1 hour',
       CASE WHEN i % 100 = 0 THEN ARRAY[$2::uuid] END
FROM (
    SELECT i, now() - interval '{DAYS} days' * (1 - i / $1::float8) AS at
    FROM generate_series(1, $1::int) AS i
) AS made
"""
OUTCOMES = """
INSERT INTO outcome (command_id, channel_id, device_id, state, deliveries, deferrals, queued_at,
                     finished_at)
SELECT c.command_id, d.device_id, d.device_id, 'acknowledged', 1, 0, c.created_at, c.ended_at
FROM (SELECT *, row_number() OVER (ORDER BY md5(command_id::text)) AS place FROM past_command) AS c
JOIN (SELECT device_id, row_number() OVER () AS place FROM device) AS d
  ON d.place = 1 + c.place % (SELECT count(*) FROM device)
"""
OPEN = """
INSERT INTO command (command_id, kind, request_type, command_class, secret, summary, actor, reason,
                     state, hold_reason, priority, target_count, created_at, expires_at, sweep_at)
SELECT command_id, 'device.restart', 'RestartDevice', 'disruptive', false, '{}', $4, 'bench', $2,
       CASE $2 WHEN 'held' THEN 'the budget is spent' END, 0, $3, now(), now() + interval '7 days',
       now() + interval '7 days'
FROM unnest($1::uuid[]) AS made (command_id)
"""
HOLDINGS = """
INSERT INTO holding (command_id, why, needs, not_before, content, device_ids)
SELECT command_id, 'budget', 1, now(), '\\x00', '{}' FROM unnest($1::uuid[]) AS made (command_id)
"""
# Two fifths of a job's devices have not answered.
JOB_PENDING = """
INSERT INTO pending (channel_id, command_id, device_id, enrollment_id, generation, priority, seq,
                     state, queued_at)
SELECT d.device_id, c.command_id, d.device_id, d.device_id, 1, 0, c.ordinal, 'queued', now()
FROM command AS c, (SELECT device_id, row_number() OVER () AS place FROM device) AS d
WHERE c.command_id = $1 AND d.place % 5 < 2
"""
JOB_OUTCOMES = """
INSERT INTO outcome (command_id, channel_id, device_id, state, deliveries, deferrals, queued_at,
                     finished_at)
SELECT $1, device_id, device_id, CASE WHEN place % 50 = 2 THEN 'failed' ELSE 'acknowledged' END, 1,
       0, now(), now()
FROM (SELECT device_id, row_number() OVER () AS place FROM device) AS d WHERE place % 5 >= 2
"""
INVENTORY_DEVICES = """
INSERT INTO device (device_id, sequence, platform, name, serial, managed)
SELECT device_id, 1, 'ios', 'iPhone ' || place, upper(substr(md5(place::text), 1, 10)), true
FROM unnest($1::uuid[]) WITH ORDINALITY AS made (device_id, place)
"""
INVENTORY_GROUPS = """
INSERT INTO device_group (group_id, name, members, created_at, created_by, changed_at, changed_by)
SELECT group_id, 'Group ' || place, 0, now(), $2, now(), $2
FROM unnest($1::uuid[]) WITH ORDINALITY AS made (group_id, place)
"""
MEMBERSHIPS = """
INSERT INTO membership (device_id, group_id, added_at, added_by)
SELECT device_id, group_id, now(), $3
FROM unnest($1::uuid[], $2::uuid[]) AS made (device_id, group_id)
"""
MEMBERS = """
UPDATE device_group SET members = (SELECT count(*) FROM membership AS m
                                   WHERE m.group_id = device_group.group_id)
"""
FACTS = """
INSERT INTO fact (device_id, name, section, value, changed_at)
SELECT device_id, name, 'security', 'true', now()
FROM unnest($1::uuid[]) AS device (device_id),
     unnest(ARRAY['passcode.present', 'passcode.compliant', 'security.encrypted', 'os.version',
                  'device.model_name', 'battery.level', 'os.build', 'device.name']) AS fact (name)
"""
POLICY = """
WITH made AS (
    INSERT INTO policy (policy_id, version, name, definition, created_at, changed_at, changed_by)
    VALUES ($1, 1, $2, $3::text::jsonb, now(), now(), $4) RETURNING policy_id
), told AS (
    INSERT INTO policy_version (policy_id, version, definition, changed_at, changed_by)
    VALUES ($1, 1, $3::text::jsonb, now(), $4)
)
INSERT INTO tally (policy_id, state, shard, count)
SELECT $1, state, shard, 5000 FROM generate_series(0, 15) AS shard,
       unnest(ARRAY['compliant', 'noncompliant', 'stale', 'error']) AS state
"""
GIVEN_CREDENTIALS = """
INSERT INTO credential (credential_id, token_sha256, name, max_uses, uses, expires_at, ownership,
                        created_by, created_at)
SELECT credential_id, decode(md5(place::text), 'hex'), 'Credential ' || place, 100, place,
       now() + interval '7 days', 'corporate', $2, now()
FROM unnest($1::uuid[]) WITH ORDINALITY AS made (credential_id, place)
"""
GUESTS_ENROLLED = """
INSERT INTO enrollment (enrollment_id, device_id, generation, state, mode, id_kind, udid, claimed,
                        authenticated_with, authenticated_at)
SELECT id, id, 1, 'quarantined', 'device', 'udid', id::text, '{"serial": "C39XK00004"}', '\\x00',
       now()
FROM unnest($1::uuid[]) AS made (id)
"""
LOBBY = """
INSERT INTO lobby (enrollment_id, device_id, udid, reasons, score, credential_id, address,
                   waits_since, expires_at)
SELECT id, id, id::text, ARRAY['serial_unlisted'], 50, $2, '198.51.100.' || place % 250, now(),
       now() + interval '7 days'
FROM unnest($1::uuid[]) WITH ORDINALITY AS made (id, place)
"""


@dataclass(frozen=True)
class Filled:
    """What there is to be asked about."""

    job: UUID
    """A command to the whole fleet, of which three fifths have answered."""
    held: UUID
    guest: UUID


async def fill(dsns: Mapping[str, str], fleet: Fleet) -> Filled:
    """Fill the databases of all services, by name."""
    filled = Filled(job=uuid7(), held=uuid7(), guest=uuid7())
    fillers = {
        "command_queue": _queue,
        "inventory": _inventory,
        "compliance": _compliance,
        "enrollment": _enrollment,
    }
    for name, filler in fillers.items():
        connection = await asyncpg.connect(
            dsns[name], server_settings={"statement_timeout": "0", "jit": "off"}
        )
        try:
            await filler(connection, fleet, filled)
            await connection.execute("VACUUM ANALYZE")
        finally:
            await connection.close()
    return filled


async def _queue(connection: Admin, fleet: Fleet, filled: Filled) -> None:
    await connection.execute(QUEUE_DEVICES, fleet.ids)
    groups = ["{" + ",".join(map(str, fleet.members[one])) + "}" for one in fleet.ids]
    await connection.execute(SCOPES, fleet.ids, groups)
    for table in ("past_command", "outcome"):
        async with connection.transaction():
            await partitions.ensure(connection, table, days_behind=DAYS)
    await connection.execute(PAST_COMMANDS, PAST, fleet.groups[SMALL_GROUP])
    await connection.execute(OUTCOMES)
    await connection.execute(OPEN, [filled.job], "active", len(fleet.ids), ACTOR)
    await connection.execute(JOB_PENDING, filled.job)
    await connection.execute(JOB_OUTCOMES, filled.job)
    held = [filled.held, *(uuid7() for _ in range(HELD))]
    await connection.execute(OPEN, held, "held", 10, ACTOR)
    await connection.execute(HOLDINGS, held)


async def _inventory(connection: Admin, fleet: Fleet, _filled: Filled) -> None:
    await connection.execute(INVENTORY_DEVICES, fleet.ids)
    await connection.execute(INVENTORY_GROUPS, fleet.groups, ACTOR)
    pairs = [(device, group) for device, groups in fleet.members.items() for group in groups]
    await connection.execute(MEMBERSHIPS, *map(list, zip(*pairs, strict=True)), ACTOR)
    await connection.execute(MEMBERS)
    await connection.execute(FACTS, fleet.ids)


async def _compliance(connection: Admin, fleet: Fleet, _filled: Filled) -> None:
    rules = [{"kind": "passcode_present"}, {"kind": "encryption_on"}]
    for policy_id, name in zip(fleet.policies, POLICIES, strict=True):
        definition = Definition.model_validate(
            {"name": f"{name} too", "description": "", "rules": rules}
        )
        await connection.execute(
            POLICY, policy_id, definition.name, definition.model_dump_json(), ACTOR
        )


async def _enrollment(connection: Admin, _fleet: Fleet, filled: Filled) -> None:
    credentials = [uuid7(datetime.now(UTC) - timedelta(hours=n)) for n in range(CREDENTIALS)]
    await connection.execute(GIVEN_CREDENTIALS, credentials, ACTOR)
    guests = [filled.guest, *(uuid7() for _ in range(GUESTS))]
    await connection.execute(GUESTS_ENROLLED, guests)
    await connection.execute(LOBBY, guests, credentials[0])


async def _serve(dsns: Mapping[str, str], folder: Path) -> None:
    """Be the process that serves them; says where, and ends with its standard input."""
    async with AsyncExitStack() as stack:
        urls = {}
        for name, service in SERVICES.items():
            running = await stack.enter_async_context(trial(service, dsns[name], folder))
            urls[name] = running.url("internal")
        print(json.dumps(urls), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1]), Path(sys.argv[2])))
