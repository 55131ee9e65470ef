"""What devices reported, as verdicts need it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.compliance.inputs import Device, Input
from shared.db.pool import Connection, Record

# A fact is replaced whole: what is older than it changes nothing.
RECORD_FACTS = """
INSERT INTO fact (device_id, name, value, observed_at, evidence, sequence)
SELECT device_id, name, coalesce(value, 'null'), at, evidence, sequence
FROM jsonb_to_recordset($1::jsonb) AS news (
    device_id uuid, name text, value jsonb, at timestamptz, evidence uuid, sequence bigint)
ON CONFLICT (device_id, name) DO UPDATE SET
    value = excluded.value, observed_at = excluded.observed_at, evidence = excluded.evidence,
    sequence = excluded.sequence
    WHERE fact.sequence < excluded.sequence
"""

CONFIRM_FACTS = """
UPDATE fact SET observed_at = news.at
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS news (device_id, name, at)
WHERE fact.device_id = news.device_id AND fact.name = news.name AND fact.observed_at < news.at
"""

RECORD_SECTIONS = """
INSERT INTO section (device_id, section, observed_at, evidence)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::uuid[])
ON CONFLICT (device_id, section) DO UPDATE
    SET observed_at = excluded.observed_at, evidence = excluded.evidence
    WHERE section.observed_at < excluded.observed_at
"""

INSTALLED = """
INSERT INTO application (device_id, identifier, version, observed_at, evidence)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::uuid[])
ON CONFLICT (device_id, identifier) DO UPDATE SET
    version = excluded.version, observed_at = excluded.observed_at, evidence = excluded.evidence
"""

REMOVED = """
DELETE FROM application USING unnest($1::uuid[], $2::text[]) AS gone (device_id, identifier)
WHERE application.device_id = gone.device_id AND application.identifier = gone.identifier
"""

DEVICES = """
SELECT device_id, platform, ownership, tags, managed, since, seen_at, seen_evidence
FROM device WHERE device_id = ANY($1::uuid[])
"""
FACTS = """
SELECT device_id, name, value, observed_at, evidence FROM fact
WHERE device_id = ANY($1::uuid[]) AND name = ANY($2::text[])
"""
APPLICATIONS = """
SELECT device_id, identifier AS name, to_jsonb(version) AS value, observed_at, evidence
FROM application WHERE device_id = ANY($1::uuid[]) AND identifier = ANY($2::text[])
"""
APPLICATION_LISTS = """
SELECT device_id, observed_at, evidence FROM section
WHERE device_id = ANY($1::uuid[]) AND section = 'applications'
"""


@dataclass(frozen=True)
class Told:
    """A value of a device with the event that told of it."""

    device_id: UUID
    name: str
    value: Any
    at: datetime
    evidence: UUID
    sequence: int


async def record_facts(tx: Connection, facts: Sequence[Told]) -> None:
    await tx.execute(RECORD_FACTS, list(facts))


async def confirm_facts(tx: Connection, facts: Sequence[tuple[UUID, str, datetime]]) -> None:
    """(device, fact, when a report held it unchanged)."""
    if facts:
        await tx.execute(
            CONFIRM_FACTS, [f[0] for f in facts], [f[1] for f in facts], [f[2] for f in facts]
        )


async def record_sections(
    tx: Connection, sections: Sequence[tuple[UUID, str, datetime, UUID]]
) -> None:
    """(device, section, when it was reported, the event that told)."""
    await tx.execute(
        RECORD_SECTIONS,
        [s[0] for s in sections],
        [s[1] for s in sections],
        [s[2] for s in sections],
        [s[3] for s in sections],
    )


async def record_applications(
    tx: Connection, installed: Sequence[Told], removed: Sequence[tuple[UUID, str]]
) -> None:
    """Take over what came (`value`: its version) and what went."""
    if removed:
        await tx.execute(REMOVED, [r[0] for r in removed], [r[1] for r in removed])
    if installed:
        await tx.execute(
            INSTALLED,
            [i.device_id for i in installed],
            [i.name for i in installed],
            [i.value for i in installed],
            [i.at for i in installed],
            [i.evidence for i in installed],
        )


async def load(
    tx: Connection, device_ids: Iterable[UUID], facts: Sequence[str], applications: Sequence[str]
) -> dict[UUID, Device]:
    """Devices with those facts and applications that are asked for."""
    wanted = list(device_ids)
    known = _by_device(await tx.fetch(FACTS, wanted, list(facts)) if facts else [])
    apps: dict[UUID, dict[str, Input]] = {}
    lists: dict[UUID, Input] = {}
    if applications:
        apps = _by_device(await tx.fetch(APPLICATIONS, wanted, list(applications)))
        lists = {
            row["device_id"]: Input(None, row["observed_at"], row["evidence"])
            for row in await tx.fetch(APPLICATION_LISTS, wanted)
        }
    return {
        row["device_id"]: Device(
            device_id=row["device_id"],
            platform=row["platform"],
            ownership=row["ownership"],
            tags=frozenset(row["tags"]),
            managed=row["managed"],
            since=row["since"],
            seen=row["seen_at"] and Input(None, row["seen_at"], row["seen_evidence"]),
            facts=known.get(row["device_id"], {}),
            applications=apps.get(row["device_id"], {}),
            application_list=lists.get(row["device_id"]),
        )
        for row in await tx.fetch(DEVICES, wanted)
    }


def _by_device(rows: Iterable[Record]) -> dict[UUID, dict[str, Input]]:
    found: dict[UUID, dict[str, Input]] = defaultdict(dict)
    for row in rows:
        given = Input(row["value"], row["observed_at"], row["evidence"])
        found[row["device_id"]][row["name"]] = given
    return found
