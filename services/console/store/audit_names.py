"""What the things are called that the audit names by id."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from shared.db.pool import Connection

NAMES = """
SELECT device_id AS id, 'device' AS kind,
       coalesce(name, reported_name, serial, 'A device without a name') AS name
FROM device WHERE device_id = ANY($1::uuid[]) AND sequence > 0
UNION ALL
SELECT account_id, 'account', name FROM account WHERE account_id = ANY($1::uuid[])
UNION ALL
SELECT group_id, 'group', name FROM device_group WHERE group_id = ANY($1::uuid[])
UNION ALL
SELECT policy_id, 'policy', name FROM policy WHERE policy_id = ANY($1::uuid[])
UNION ALL
SELECT webhook_id, 'webhook', name FROM webhook WHERE webhook_id = ANY($1::uuid[])
UNION ALL
SELECT provider_id, 'provider', name FROM identity_provider WHERE provider_id = ANY($1::uuid[])
UNION ALL
SELECT token_id, 'token', name FROM api_token WHERE token_id = ANY($1::uuid[])
UNION ALL
SELECT session_id, 'session', account.name FROM session JOIN account USING (account_id)
WHERE session_id = ANY($1::uuid[])
"""
# What somebody may type who looks for a thing; as the audit names it.
FIND = """
(SELECT device_id::text AS target FROM device WHERE serial_key = lower($1) AND sequence > 0 LIMIT 1)
UNION ALL
(SELECT device_id::text FROM device WHERE name_key = lower($1) AND sequence > 0 LIMIT 1)
UNION ALL
(SELECT 'account:' || account_id FROM account WHERE lower(name) = lower($1) LIMIT 1)
UNION ALL
(SELECT group_id::text FROM device_group WHERE lower(name) = lower($1) LIMIT 1)
UNION ALL
(SELECT policy_id::text FROM policy WHERE lower(name) = lower($1) LIMIT 1)
UNION ALL
(SELECT 'webhook:' || webhook_id FROM webhook WHERE lower(name) = lower($1) LIMIT 1)
LIMIT 1
"""
# What commands are, by the entries that they were asked for in.
COMMANDS = """
SELECT target, after FROM audit
WHERE target = ANY($1::text[]) AND action = 'command.create' AND after IS NOT NULL
"""
PEOPLE = "SELECT 'account:' || account_id AS actor, name FROM account ORDER BY name LIMIT 500"


@dataclass(frozen=True)
class Named:
    """What an id is the id of, and its name."""

    kind: str
    name: str


async def names(tx: Connection, ids: Iterable[UUID]) -> dict[UUID, Named]:
    rows = await tx.fetch(NAMES, list(ids))
    return {row["id"]: Named(row["kind"], row["name"]) for row in rows}


async def commands(tx: Connection, targets: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Target → what was recorded when it was asked for: its kind, and its device or how many."""
    rows = await tx.fetch(COMMANDS, list(targets))
    found = {row["target"]: orjson.loads(row["after"]) for row in rows}
    return {target: asked for target, asked in found.items() if asked and "kind" in asked}


async def find(tx: Connection, words: str) -> str | None:
    """The target that somebody means by a name or a serial number."""
    target: str | None = await tx.fetchval(FIND, words)
    return target


async def people(tx: Connection) -> dict[str, str]:
    """Actor → name, of everybody who has an account."""
    return {row["actor"]: row["name"] for row in await tx.fetch(PEOPLE)}
