"""An entry of the audit is outside in under ten seconds (security.md): nothing on its way may wait
longer, whoever commits it, and the sum of what may wait is bounded by constants of ours.
"""

from __future__ import annotations

import inspect

from shared.bus import pacing, relay, waking
from shared.bus.kafka import KafkaAccess
from shared.bus.relay import Relay
from shared.db.pool import Pool, transaction
from shared.events.audit import AuditRecorded
from shared.runtime import auditing
from shared.runtime.http import Caller
from tests.bus.small import SERVICE, Tap, running

PROMISED_SECONDS = 10.0


async def _act(pool: Pool, target: str) -> None:
    caller = Caller("account:1", frozenset({"inventory.write"}), "203.0.113.7")
    async with transaction(pool) as tx:
        await auditing.record(tx, caller, "inventory.write", "thing.change", target)


async def test_an_entry_leaves_at_once(pool: Pool, dsn: str, kafka: KafkaAccess) -> None:
    """The relay's own look is an hour away: what sends the entries is the commit of each."""
    tap, found = Tap(kafka, [f"muster.audit.{SERVICE}.v1"]), []
    await tap.open()
    try:
        async with running(Relay(SERVICE, dsn, kafka, poll_seconds=3600)):
            for number in (1, 2, 3):
                await _act(pool, f"thing:{number}")
                found = await tap.until(lambda events, wanted=number: len(events) == wanted)  # type: ignore[misc]
    finally:
        await tap.close()
    targets = [event.target for event in found if isinstance(event, AuditRecorded)]
    assert targets == ["thing:1", "thing:2", "thing:3"]


def test_what_may_wait_is_bounded() -> None:
    """The relay's look when every wake-up was lost, its rest between batches, the pause of those
    who notify it, and its longest pause after an outage: all of them, one after the other.
    """
    look = inspect.signature(Relay).parameters["poll_seconds"].default
    longest = max(pacing.pace(took) for took in (0.0, 0.1, 10.0, 3600.0))
    assert longest == pacing.LONGEST
    pauses = (look, longest, waking.NOTIFY_EVERY_SECONDS, relay._LONGEST_PAUSE)
    assert sum(pauses) < PROMISED_SECONDS


async def test_whoever_commits_an_entry_wakes_whoever_sleeps_for_its_service(pool: Pool) -> None:
    """In processes without a relay that is the notifier (test_waking.py)."""

    class Bell:
        rung = 0

        def wake(self) -> None:
            self.rung += 1

    bell = Bell()
    with waking.listening(SERVICE, bell):
        await _act(pool, "thing:1")
    assert bell.rung == 1
