"""Waiting until nothing moves any more: only then can sums be compared."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp
import asyncpg
from aiokafka.errors import KafkaError

from shared.bus.kafka import group_of
from shared.events.registry import SERVICES
from tests.chaos.storm.check_events import LISTENS
from tests.chaos.storm.devices import Fleet
from tests.chaos.storm.stage import Stage
from tests.chaos.storm.wire import Wire

LONGEST = 300.0
_LOOK, _SAY = 1.0, 20.0
OPEN_WORK = """
SELECT (
           SELECT count(*) FROM pending AS p JOIN command AS c USING (command_id)
           WHERE p.state <> 'cancel_requested' AND NOT (p.state = 'sent' AND c.state = 'expired')
       ) AS pending,
       (SELECT count(*) FROM waiting) AS waiting,
       (SELECT count(*) FROM target) AS unexpanded
"""
# Handed out, the answer lost on its way, then cancelled or expired: no device will ever say a word
# about it.
AWAITED = """
SELECT count(*) FROM pending AS p JOIN command AS c USING (command_id)
WHERE p.state = 'cancel_requested' OR p.state = 'sent' AND c.state = 'expired'
"""
_LATER = 3 * 3600.0
"""Beyond the expiry of every command, and the time in which its answer is awaited."""
FENCES = "SELECT count(*) AS fences FROM fence"
NOT_ENROLLED = """
SELECT count(*) AS devices FROM device LEFT JOIN enrollment ON enrollment_id = current_enrollment
WHERE device.device_id::text = ANY($1) AND state IS DISTINCT FROM 'enrolled'
"""
_AWAY = (OSError, TimeoutError, KafkaError, asyncpg.PostgresError, aiohttp.ClientError)


async def until_quiet(stage: Stage, wire: Wire, fleet: Fleet, say: Callable[[str], None]) -> str:
    """Return when no work is open, no event on its way and nobody behind; empty, or what was not
    so in all that time.
    """
    said = time.monotonic()
    deadline, before, unrest = time.monotonic() + LONGEST, None, "nothing was looked at"
    while time.monotonic() < deadline:
        try:
            ends = await wire.ends()
            unrest = await _unrest(
                stage, fleet, {(p.topic, p.partition): n for p, n in ends.items()}
            )
        except _AWAY as error:
            unrest = repr(error)
        else:
            if not unrest and await _await_no_more(stage):
                unrest = "outcomes are awaited"
            if not unrest and ends == before:
                return ""
            before = None if unrest else ends
        for name in await stage.revive():
            say(f"{name} says that it is not alive: started again")
            fleet.ledger.counts["restarts that livez asked for"] += 1
        if unrest and time.monotonic() - said > _SAY:
            said = time.monotonic()
            say(f"waiting: {unrest}")
        await asyncio.sleep(_LOOK)
    return unrest or "events go round and round"


async def _await_no_more(stage: Stage) -> bool:
    """Let command_queue's clock jump while nothing else moves, so that it gives up what no device
    will ever answer; True while there is such a thing.
    """
    [row] = await stage.query("command_queue", AWAITED)
    stage.dials["command_queue"].turn(_LATER if row[0] else 0)
    return bool(row[0])


async def _unrest(stage: Stage, fleet: Fleet, ends: dict[tuple[str, int], int]) -> str:
    moving: dict[str, object] = {}
    [work] = await stage.query("command_queue", OPEN_WORK)
    moving |= {name: count for name, count in work.items() if count}
    ids = [living.book.device_id for living in fleet.devices]
    [fences] = await stage.query("enrollment", FENCES)
    [absent] = await stage.query("enrollment", NOT_ENROLLED, ids)
    moving |= {name: n for name, n in {**fences, **absent}.items() if n}
    if lost := sum(living.device.enrollment is None for living in fleet.devices):
        moving["devices not managed"] = lost
    for service in SERVICES:
        [row] = await stage.query(service, "SELECT count(*) AS n FROM outbox")
        if row["n"]:
            moving[f"outbox of {service}"] = row["n"]
    for service in LISTENS:
        if behind := await _lag(stage, service, ends):
            moving[f"{service} is behind"] = behind
    return ", ".join(f"{name}: {count}" for name, count in moving.items())


async def _lag(stage: Stage, service: str, ends: dict[tuple[str, int], int]) -> int:
    """Records that a service has not taken, of the partitions that it ever committed for.

    A partition of which it never committed anything but that holds records counts in full; those
    of topics that it does not read have no offset and no reader.
    """
    admin = stage.broker().admin()
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group_of(service))
    finally:
        await admin.close()
    at = {(place.topic, place.partition): found.offset for place, found in offsets.items()}
    topics = {model.TOPIC for model in LISTENS[service] if "{" not in model.TOPIC}
    topics |= {topic for topic, _ in at}
    return sum(max(0, end - at.get(place, 0)) for place, end in ends.items() if place[0] in topics)
