"""What services know of each other's things is what their owners say; what is kept as a sum is the
sum.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from shared.events.commands import CommandFinished
from shared.events.device_state import DeviceState
from shared.events.registry import SERVICES
from tests.chaos.storm.ledger import Ledger
from tests.chaos.storm.report import Report
from tests.chaos.storm.stage import DESTROYED_IN_AN_HOUR, Stage
from tests.chaos.storm.wire import Travelled, Wire
from tests.command_queue.fleet import ASTRAY

PROJECTIONS = ("command_queue", "push_notifier", "inventory", "compliance", "configuration")
_NIL = "00000000-0000-0000-0000-000000000000"

ENROLLMENTS = """
SELECT enrollment_id::text AS id, generation, state FROM enrollment WHERE device_id::text = ANY($1)
"""
OPEN_CHANNELS = {
    "command_queue": """
        SELECT h.channel_id::text AS id FROM channel AS h JOIN enrollment AS e USING (enrollment_id)
        WHERE h.open AND e.state = 'enrolled'
    """,
    "push_notifier": "SELECT channel_id::text AS id FROM channel WHERE open",
}
MANAGED = dict.fromkeys(
    ("inventory", "compliance", "configuration"),
    "SELECT device_id::text AS id FROM device WHERE managed",
)
PINS = "SELECT encode(sha256, 'hex') AS id FROM pin JOIN enrollment AS e USING (enrollment_id)"
TALLY = """
SELECT policy_id::text, state, sum(count)::int AS count FROM tally
GROUP BY policy_id, state HAVING sum(count) <> 0
"""
RECOUNT = """
SELECT policy_id::text, state, count(*)::int AS count FROM verdict GROUP BY policy_id, state
UNION ALL
SELECT $1, state, count(*)::int FROM device WHERE state IS NOT NULL GROUP BY state
"""
REPORTS = "SELECT device_id::text, section, sequence FROM report"
FACTS = "SELECT device_id::text, name, value FROM fact"
ITEMS = {
    "inventory": "SELECT device_id::text || ' ' || key AS id FROM application",
    "compliance": "SELECT device_id::text || ' ' || identifier AS id FROM application",
}
AWAKE = """
SELECT channel_id::text, device_id::text, waiting_since::text FROM channel
WHERE open AND waiting_since IS NOT NULL
"""
CHARGES = """
SELECT command_id::text, targets, charged_at FROM charge
WHERE command_class = 'destructive' ORDER BY charged_at
"""
DUE = """
SELECT command_id::text, target_count FROM any_command
WHERE command_class = 'destructive' AND hold_reason IS NULL
"""
# Periods of facts follow each other: what ended was followed at once, nothing overlaps.
BROKEN_HISTORY = """
WITH period AS (
    SELECT device_id, name, valid_from, valid_until FROM fact_history
    UNION ALL SELECT device_id, name, changed_at, 'infinity' FROM fact
)
SELECT device_id::text, name, valid_from::text, previous::text FROM (
    SELECT *, lag(valid_until) OVER (
        PARTITION BY device_id, name ORDER BY valid_from, valid_until
    ) AS previous FROM period
) AS one WHERE previous <> valid_from
"""
STILL_TRUSTED = """
SELECT encode(sha256, 'hex') AS certificate, enrollment_id::text
FROM certificate JOIN enrollment USING (enrollment_id)
WHERE state = 'ended' AND revoked_at IS NULL
"""
_WINDOW = 3600 - 200
"""An hour, less what two clocks may differ by."""


async def check(stage: Stage, wire: Wire, ledger: Ledger, report: Report) -> None:
    states = _states(wire)
    report.checked["devices"] = len(states)
    await _source(stage, states, ledger)
    for service in PROJECTIONS:
        await _as_new_as_the_topic(stage, service, wire, ledger)
    await _projections(stage, states, ledger)
    await _tallies(stage, ledger)
    await _reports(stage, wire, ledger)
    await _facts(stage, ledger)
    for row in await stage.query("push_notifier", AWAKE):
        ledger.violated(f"push_notifier believes that work waits: {dict(row)}")
    await _charges(stage, ledger)
    for row in await stage.query("inventory", BROKEN_HISTORY):
        ledger.violated(f"the history of a fact has a gap or an overlap: {dict(row)}")
    for row in await stage.query("command_queue", ASTRAY):
        ledger.violated(f"commands for a device would go astray: {row['device_id']}")
    for row in await stage.query("enrollment", STILL_TRUSTED):
        ledger.violated(f"a certificate outlived its enrollment: {dict(row)}")
    for service in SERVICES:
        rows = await stage.query(service, "SELECT type, reason, error, event_id FROM dead_letter")
        for row in rows:
            ledger.violated(f"{service} gave an event up: {dict(row)}")


def _states(wire: Wire) -> dict[str, dict[str, Any]]:
    """What enrollment said last of each device."""
    newest = wire.newest_of(DeviceState.TOPIC)
    return {key: record.body for key, record in newest.items() if record.type == DeviceState.TYPE}


async def _source(stage: Stage, states: dict[str, dict[str, Any]], ledger: Ledger) -> None:
    """The newest event about a device says what enrollment's own rows say."""
    rows = await stage.query("enrollment", ENROLLMENTS, list(states))
    stored = {(row["id"], row["generation"], row["state"]) for row in rows}
    told = {
        (one["enrollment_id"], one["generation"], one["state"])
        for state in states.values()
        for one in state["enrollments"]
    }
    if missing := told - stored:
        ledger.violated(f"device-state tells what enrollment does not know: {sorted(missing)[:5]}")
    untold = {one for one in stored - told if one[2] != "ended"}
    if untold:
        ledger.violated(f"device-state does not tell of {sorted(untold)[:5]}")
    if any(one[2] == "quarantined" for one in stored):
        ledger.violated("an honest device is quarantined")


async def _as_new_as_the_topic(stage: Stage, service: str, wire: Wire, ledger: Ledger) -> None:
    rows = await stage.query(service, "SELECT device_id::text AS id, sequence FROM device")
    known = {row["id"]: row["sequence"] for row in rows}
    for key, record in _devices(wire).items():
        if known.get(key) != record.sequence:
            ledger.violated(f"{service} knows {key} as of {known.get(key)}, not {record.sequence}")


def _devices(wire: Wire) -> dict[str, Travelled]:
    newest = wire.newest_of(DeviceState.TOPIC)
    return {key: record for key, record in newest.items() if record.type == DeviceState.TYPE}


async def _projections(stage: Stage, states: dict[str, dict[str, Any]], ledger: Ledger) -> None:
    enrollments = [(key, one) for key, state in states.items() for one in state["enrollments"]]
    opened = {
        channel["channel_id"]
        for _, one in enrollments
        for channel in one["channels"]
        if channel["open"] and one["state"] == "enrolled"
    }
    managed = {
        key
        for key, one in enrollments
        if one["state"] == "enrolled" and one["enrollment_id"] == states[key]["current_enrollment"]
    }
    pins = {pin for _, one in enrollments for pin in one["pins"]}
    for service, statement in OPEN_CHANNELS.items():
        await _same(stage, service, statement, opened, "open channels", ledger)
    for service, statement in MANAGED.items():
        await _same(stage, service, statement, managed, "managed devices", ledger)
    await _same(stage, "command_queue", PINS, pins, "pins", ledger)
    rows = await stage.query("command_queue", ENROLLMENTS, list(states))
    told = {(one["enrollment_id"], one["generation"], one["state"]) for _, one in enrollments}
    if odd := {(row["id"], row["generation"], row["state"]) for row in rows} ^ told:
        ledger.violated(f"command_queue: enrollments differ: {sorted(odd)[:5]}")


async def _same(
    stage: Stage, service: str, statement: str, wanted: set[str], what: str, ledger: Ledger
) -> None:
    found = {row["id"] for row in await stage.query(service, statement)}
    if found != wanted:
        more, less = sorted(found - wanted)[:3], sorted(wanted - found)[:3]
        ledger.violated(f"{service}: {what} differ: {more} too much, {less} missing")


async def _tallies(stage: Stage, ledger: Ledger) -> None:
    kept = {_key(row): row["count"] for row in await stage.query("compliance", TALLY)}
    counted = {_key(row): row["count"] for row in await stage.query("compliance", RECOUNT, _NIL)}
    if kept != counted:
        ledger.violated(f"compliance counts {kept}, recounted {counted}")


def _key(row: Any) -> tuple[str, str]:
    return row["policy_id"], row["state"]


async def _reports(stage: Stage, wire: Wire, ledger: Ledger) -> None:
    """Inventory's newest report of each section is the newest answer that was acknowledged."""
    newest: dict[tuple[str, str], int] = {}
    for event in wire.of_type(CommandFinished.TYPE).values():
        body = event.body
        if body["kind"] == "inventory.refresh" and body["state"] == "acknowledged":
            place = (body["device_id"], body["section"])
            newest[place] = max(newest.get(place, 0), event.sequence)
    rows = await stage.query("inventory", REPORTS)
    kept = {(row["device_id"], row["section"]): row["sequence"] for row in rows}
    for place in kept.keys() | newest.keys():
        if kept.get(place) != newest.get(place):
            ledger.violated(
                f"inventory's report {place} is of {kept.get(place)}, not {newest.get(place)}"
            )


async def _facts(stage: Stage, ledger: Ledger) -> None:
    """Compliance judges by what inventory knows."""
    mine = {_fact(row): row["value"] for row in await stage.query("inventory", FACTS)}
    theirs = {_fact(row): row["value"] for row in await stage.query("compliance", FACTS)}
    for fact, value in mine.items():
        if json.loads(theirs.get(fact, "null")) != json.loads(value):
            ledger.violated(f"compliance knows {fact} as {theirs.get(fact)}, not {value}")
    items = {row["id"] for row in await stage.query("inventory", ITEMS["inventory"])}
    await _same(stage, "compliance", ITEMS["compliance"], items, "applications", ledger)


def _fact(row: Any) -> tuple[str, str]:
    return row["device_id"], row["name"]


async def _charges(stage: Stage, ledger: Ledger) -> None:
    """Each destructive command that runs was charged once, and no hour held more than its limit."""
    charges = await stage.query("command_queue", CHARGES)
    due = {
        row["command_id"]: row["target_count"] for row in await stage.query("command_queue", DUE)
    }
    charged = Counter[str]()
    for row in charges:
        charged[row["command_id"]] += row["targets"]
    if dict(charged) != due:
        ledger.violated(f"charges {dict(charged)} are not what commands cost: {due}")
    most = DESTROYED_IN_AN_HOUR
    for row in charges:
        since = row["charged_at"].timestamp() - _WINDOW
        spent = sum(
            one["targets"] for one in charges
            if since < one["charged_at"].timestamp() <= row["charged_at"].timestamp()
        )  # fmt: skip
        if spent > most:
            ledger.violated(f"{spent} destructive targets in one hour, {most} are the limit")
