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

    async def told(service: str, name: str) -> Told | None:
        found = (s for s in collector.of(trace_id) if (s.service, s.name) == (service, name))
        return next(found, None)

    await patiently(lambda: told("muster-push_notifier", "push"), seconds=30)
    await Conversation(device).run()
    judged = await patiently(
        lambda: told("muster-compliance", "process muster.inventory.v1"), seconds=30
    )
    audited = await patiently(
        lambda: told("muster-console", "process muster.audit.command_queue.v1"), seconds=30
    )

    by_id = {span.span_id: span for span in collector.of(trace_id)}
    request = "POST /api/v1/commands"
    assert _road(judged, by_id) == [
        ("muster-command_queue", request),
        ("muster-command_queue", "answer inventory.refresh"),
        ("muster-inventory", "process muster.command.v1"),
        ("muster-compliance", "process muster.inventory.v1"),
    ]
    assert _road(audited, by_id)[0] == ("muster-command_queue", request)
    pushed = await told("muster-push_notifier", "push")
    assert pushed is not None
    assert _road(pushed, by_id) == [
        ("muster-command_queue", request),
        ("muster-push_notifier", "process muster.command.v1"),
        ("muster-push_notifier", "push"),
    ]
    given = await told("muster-command_queue", "hand out inventory.refresh")
    assert given is not None
    assert by_id[given.parent_id].name == request
    assert await patiently(lambda: _verdict_carries(person, device_id, trace_id), seconds=30)


def _road(span: Told, by_id: dict[str, Told]) -> list[tuple[str, str]]:
    """From the beginning of the trace, as far as Muster knows it, to this span."""
    road = [span]
    while parent := by_id.get(road[0].parent_id):
        road.insert(0, parent)
    return [(one.service, one.name) for one in road]


async def _verdict_carries(person: Person, device_id: str, trace_id: str) -> bool:
    """Whether the event that other systems hear still names the trace."""
    return any(
        record.key == device_id and trace_id in record.traceparent
        for record in await read_topic(person.cluster, "muster.compliance.v1")
    )
