"""The gauges of open work, as an alert would read them."""

from __future__ import annotations

from datetime import timedelta

from prometheus_client import REGISTRY

from shared.runtime.clock import FixedClock
from tests.command_queue.fleet import Fleet


def told(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_open_targets_are_counted_and_the_oldest_is_told(
    fleet: Fleet, clock: FixedClock
) -> None:
    phones = await fleet.enroll(3)
    await fleet.ask(*phones)
    await phones[0].idle()
    clock.advance(timedelta(minutes=5))
    await fleet.ask(*phones, expand=False)
    await fleet.trial.run_job("measure queues")
    assert told("muster_command_queue_open_targets_rows", state="queued") == 2
    assert told("muster_command_queue_open_targets_rows", state="sent") == 1
    assert told("muster_command_age_seconds", state="queued") == 300
    assert told("muster_command_age_seconds", state="deferred") == 0
    assert told("muster_command_queue_unexpanded_rows") == 3
    await fleet.job("expand targets")
    for phone in phones:
        await phone.drain()
    await fleet.trial.run_job("measure queues")
    assert told("muster_command_queue_open_targets_rows", state="queued") == 0
    assert told("muster_command_age_seconds", state="queued") == 0
    assert told("muster_command_queue_unexpanded_rows") == 0
