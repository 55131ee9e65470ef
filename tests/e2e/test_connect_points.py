"""apple.md §1.11, the points that concern the connect endpoint, on a running Muster."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from tests.chaos.rig import patiently, read_topic
from tests.e2e.conftest import Workshop
from tests.e2e.rig import Person
from tools.simulator.wire.messages import xml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_point_09_fifo_with_priority(workshop: Workshop, person: Person) -> None:
    device = await workshop.enrolled()
    device_id = await person.device_id(device)
    first = await person.command(device_id)
    second = await person.command(device_id)
    urgent = await person.command(device_id, priority=10)
    given = []
    reply = await device.connect()
    while reply.command is not None:
        given.append(reply.command.uuid.lower())
        reply = await device.connect("Acknowledged", reply.command)
    assert given == [urgent, first, second]


async def test_point_10_and_11_not_now(workshop: Workshop, person: Person) -> None:
    device = await workshop.enrolled("mac")
    device_id = await person.device_id(device)
    refused = await person.command(device_id)
    other = await person.command(device_id)
    reply = await device.connect()
    assert reply.command
    assert reply.command.uuid.lower() == refused
    reply = await device.connect("NotNow", reply.command)
    assert reply.command
    assert reply.command.uuid.lower() == other
    assert await person.state(refused) == "deferred"
    reply = await device.connect("NotNow", reply.command)
    assert reply.command is None, "after a NotNow only commands without an answer are handed out"
    reply = await device.connect()
    assert reply.command
    assert reply.command.uuid.lower() == refused, "the refused one is back on the next Idle"
    reply = await device.connect("NotNow", reply.command)
    reply = await device.connect()
    assert reply.command
    reply = await device.connect("NotNow", refused.upper())
    assert reply.command is None or reply.command.uuid.lower() == other


async def test_point_11_a_push_follows_a_not_now_that_another_answer_hid(
    workshop: Workshop, person: Person
) -> None:
    device = await workshop.enrolled("mac")
    device_id = await person.device_id(device)
    refused, other = await person.command(device_id), await person.command(device_id)
    reply = await device.connect()
    reply = await device.connect("NotNow", reply.command)
    assert reply.command
    assert reply.command.uuid.lower() == other
    await device.connect("Acknowledged", reply.command)

    async def scheduled() -> bool:
        rows = await person.cluster.query(
            "push_notifier",
            "SELECT next_push_at FROM channel WHERE device_id = $1 AND open",
            device_id,
        )
        return any(row["next_push_at"] for row in rows)

    await patiently(scheduled, seconds=30)
    assert refused


async def test_point_12_a_duplicate_answer_is_one_result_and_one_event(
    workshop: Workshop, person: Person
) -> None:
    device = await workshop.enrolled()
    command = await person.command(await person.device_id(device))
    given = (await device.connect()).command
    assert given
    for _ in range(3):
        assert (await device.connect("Acknowledged", given)).ok
    assert (await person.outcome(command))["state"] == "acknowledged"

    async def events() -> int:
        records = await read_topic(person.cluster, "muster.command.v1")
        return len(
            {
                record.event_id
                for record in records
                if record.type == "muster.command.finished.v1"
                and json.loads(record.body)["command_id"] == command
            }
        )

    assert await patiently(events, seconds=30) == 1


async def test_point_13_an_answer_to_an_unknown_command_is_200_and_told(
    workshop: Workshop, person: Person
) -> None:
    device = await workshop.enrolled()
    unknown = str(uuid4()).upper()
    for uuid in (unknown, "not a uuid", ""):
        reply = await device.connect("Acknowledged", uuid)
        assert reply.status == 200
    device_id = await person.device_id(device)

    async def told() -> bool:
        records = await read_topic(person.cluster, "muster.command.v1")
        return any(
            record.type == "muster.command.answer_unexpected.v1"
            and record.key == device_id
            and json.loads(record.body)["command_uuid"].upper() == unknown
            for record in records
        )

    await patiently(told, seconds=30)


async def test_point_14_a_lost_reply_is_given_again_and_counted(
    workshop: Workshop, person: Person
) -> None:
    device = await workshop.enrolled()
    command = await person.command(await person.device_id(device))
    first = (await device.connect()).command
    again = (await device.connect()).command
    assert first
    assert again
    assert first.uuid == again.uuid
    await device.connect("Acknowledged", again)
    outcome = await person.outcome(command)
    assert outcome["state"] == "acknowledged"
    assert outcome["deliveries"] == 2


async def test_errors_end_a_command_with_their_chain(workshop: Workshop, person: Person) -> None:
    device = await workshop.enrolled()
    device_id = await person.device_id(device)
    for status in ("Error", "CommandFormatError"):
        command = await person.command(device_id)
        given = (await device.connect()).command
        chain = [{"ErrorCode": 12021, "ErrorDomain": "MCMDM", "USEnglishDescription": "no"}]
        await device.connect(status, given, errors=chain)
        outcome = await person.outcome(command)
        assert outcome["state"] == "failed"
        assert outcome["errors"][0]["code"] == 12021


async def test_an_unknown_status_is_bounded(workshop: Workshop) -> None:
    device = await workshop.enrolled()
    reply = await device.connect("Sideways")
    assert reply.status in (200, 400)
    assert (await device.connect()).ok


async def test_a_check_in_sent_to_connect_is_refused(workshop: Workshop) -> None:
    device = await workshop.enrolled()
    body = device.message("GetBootstrapToken")
    assert (await device.checkin(body)).ok
    assert (await device.send(device.connect_url, xml(body))).status == 400


async def test_what_is_cancelled_is_not_handed_out(workshop: Workshop, person: Person) -> None:
    device = await workshop.enrolled()
    command = await person.command(await person.device_id(device))
    await person.cancel(command)
    assert (await device.connect()).command is None
    assert (await person.outcome(command))["state"] == "cancelled"
