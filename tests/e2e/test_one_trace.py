"""One trace from the request of a person to the verdict, through Kafka, APNs and the device."""

from __future__ import annotations

from secrets import token_hex
from uuid import uuid4

import pytest

from tests.chaos.rig import patiently, read_topic
from tests.collector import Collector, Told
from tests.e2e.conftest import Workshop
from tests.e2e.rig import Person
from tools.simulator.conversation import Conversation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_one_trace_from_the_request_to_the_verdict(
    workshop: Workshop, person: Person, collector: Collector
) -> None:
    device = await workshop.enrolled("iphone")
    device_id = await person.device_id(device)
    device.state.passcode_present = not device.state.passcode_present  # the baseline asks for one
    trace_id = token_hex(16)
    asked = {
        "kind": "inventory.refresh",
        "params": {"section": "security"},
        "device_ids": [device_id],
        "idempotency_key": str(uuid4()),
        "reason": "one trace",
    }
    await person.ask(
        "command_queue",
        "POST",
        "/api/v1/commands",
        json=asked,
        trace=f"00-{trace_id}-{token_hex(8)}-01",
    )

    async def taken(*road: tuple[str, str]) -> bool:
        """Whether a span came to where this road ends; processes tell in any order."""
        by_id = {span.span_id: span for span in collector.of(trace_id)}
        return any(_road(span, by_id) == list(road) for span in by_id.values())

    asking = ("command_queue", "POST /api/v1/commands")
    pushing = ("push_notifier", "takes events"), ("push_notifier", "push")
    await patiently(lambda: taken(asking, *pushing))
    await Conversation(device).run()
    await patiently(lambda: taken(asking, ("command_queue", "hand out inventory.refresh")))
    answering = ("command_queue", "answer inventory.refresh")
    judging = ("inventory", "takes events"), ("compliance", "takes events")
    await patiently(lambda: taken(asking, answering, *judging))
    await patiently(lambda: taken(asking, ("console", "takes events")))
    await patiently(lambda: _verdict_carries(person, device_id, trace_id))


def _plain(span: Told) -> str:
    """Alone in its batch an event is processed, beside others it has its share of the handling."""
    return "takes events" if span.name.startswith(("process ", "handle ")) else span.name


def _road(span: Told, by_id: dict[str, Told]) -> list[tuple[str, str]]:
    """From the beginning of the trace, as far as Muster knows it, to this span."""
    road = [span]
    while parent := by_id.get(road[0].parent_id):
        road.insert(0, parent)
    return [(one.service.removeprefix("muster-"), _plain(one)) for one in road]


async def _verdict_carries(person: Person, device_id: str, trace_id: str) -> bool:
    """Whether the event that other systems hear still names the trace."""
    return any(
        record.key == device_id and trace_id in record.traceparent
        for record in await read_topic(person.cluster, "muster.compliance.v1")
    )
