"""Authenticates and TokenUpdates that share a batch: each is decided alone, with its locks held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.enrollment import leaving
from services.enrollment.http.devices import CHECK_INS
from services.enrollment.leaving import Leaving
from services.enrollment.store import pins, states
from shared.db.locks import lock_devices
from shared.db.pool import transaction
from shared.events.device_state import DeviceState
from shared.events.devices import CertificateIssued, DeviceEnrolled
from shared.runtime import traces
from shared.runtime.testing import Answer
from tests.enrollment.conftest import Apple, House

WAITING = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"
LONG = 20


async def newcomer(house: House, **more: Any) -> Apple:
    """A device with a certificate that has not been used yet."""
    device = house.device(**more)
    device.identity = await house.identity(await house.credential())
    return device


async def until_blocked(house: House) -> None:
    """Wait until a connection of the service waits for a lock."""
    [name] = await house.query("SELECT current_database() AS name")
    async with asyncio.timeout(LONG):
        while not await house.query(WAITING, name["name"]):  # noqa: ASYNC110 - a lock tells nobody
            await asyncio.sleep(0.01)


@asynccontextmanager
async def one_batch(house: House, count: int) -> AsyncIterator[None]:
    """What is sent inside the block, `count` requests, becomes one batch when the block ends."""
    first = await newcomer(house)
    batcher = house.service.parts.values[CHECK_INS]._arrivals._batcher
    async with transaction(house.service.context.pool) as tx:
        await pins.hold(tx, [first.udid], [], [])
        blocker = asyncio.create_task(house.check_in(first, first.authenticate()))
        await until_blocked(house)
        yield
        async with asyncio.timeout(LONG):
            while batcher._waiting < count:  # noqa: ASYNC110 - nor does a queue
                await asyncio.sleep(0.01)
    assert (await blocker).status == 200


async def together(house: House, sent: Sequence[tuple[Apple, dict[str, Any]]]) -> list[Answer]:
    """Send these so that they share a batch."""
    async with one_batch(house, len(sent)):
        tasks = [asyncio.create_task(house.check_in(*each)) for each in sent]
    return list(await asyncio.gather(*tasks))


async def test_beginners_and_openers_share_a_batch(house: House) -> None:
    """Every device gets its own events, in order; the state of a newcomer comes with its tokens."""
    openers = [await newcomer(house) for _ in range(2)]
    for device in openers:
        await house.check_in(device, device.authenticate())
    beginners = [await newcomer(house) for _ in range(2)]
    await house.told()
    sent = [(device, device.token_update(UnlockToken=b"unlock")) for device in openers]
    sent += [(device, device.authenticate()) for device in beginners]
    answers = await together(house, sent)
    assert {answer.status for answer in answers} == {200}
    told = await house.told()
    for device, kinds in [
        *((device, [DeviceEnrolled, DeviceState]) for device in openers),
        *((device, [CertificateIssued]) for device in beginners),
    ]:
        device_id = await house.id_of(device)
        events = [event for event in told.events if event.device == device_id]
        assert [type(event) for event in events] == kinds
        async with transaction(house.service.context.pool) as tx:
            [stored] = await states.read(tx, [device_id])
        if device in openers:
            assert events[-1].payload() == stored.payload()
        assert len(stored.enrollments[0].pins) == 1
    assert (await house.query("SELECT count(*) FROM enrollment WHERE state = 'enrolled'"))[0][
        0
    ] == 2


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    traces.use(SimpleSpanProcessor(exporter))
    yield exporter
    traces.shut_down()


async def test_what_a_batch_tells_goes_along_with_the_request_that_made_it(
    house: House, spans: InMemorySpanExporter
) -> None:
    opener, beginner = [await newcomer(house) for _ in range(2)]
    await house.check_in(opener, opener.authenticate())
    await house.told()
    spans.clear()
    sent = [(opener, opener.token_update()), (beginner, beginner.authenticate())]
    await together(house, sent)
    told = await house.told()
    requests = {
        f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}"
        for span in spans.get_finished_spans()
        if span.name == "PUT /mdm/apple/checkin" and span.context
    }
    seen = []
    for device, count in ((opener, 2), (beginner, 1)):
        device_id = await house.id_of(device)
        metas = [event.meta for event in told.events if event.device == device_id]
        assert len(metas) == count
        seen.append({(meta.correlation_id, (meta.traceparent or "")[:-3]) for meta in metas})
    [(first, one)], [(second, other)] = seen
    assert first != second
    assert one != other
    assert {one, other} <= requests


async def test_an_authenticate_that_waited_sees_what_happened_meanwhile(house: House) -> None:
    """The device checks out while its repeated Authenticate waits for the lock: it has ended, and
    does not come back without a certificate.
    """
    device = await house.enrolled()
    device_id = await house.id_of(device)
    [row] = await house.query("SELECT enrollment_id FROM enrollment")
    async with transaction(house.service.context.pool) as tx:
        await lock_devices(tx, [device_id])
        waiting = asyncio.create_task(house.check_in(device, device.authenticate()))
        await until_blocked(house)
        await leaving.end_and_tell(
            tx, [Leaving(row["enrollment_id"], "check_out")], house.clock.now()
        )
    answer = await waiting
    assert answer.status == 400
    assert [row["state"] for row in await house.query("SELECT state FROM enrollment")] == ["ended"]


async def test_a_certificate_that_comes_under_two_ids_at_once_enrolls_one(house: House) -> None:
    one = await newcomer(house)
    other = house.device(identity=one.identity)
    answers = await together(house, [(one, one.authenticate()), (other, other.authenticate())])
    assert sorted(answer.status for answer in answers) == [200, 400]
    found = await house.query("SELECT FROM enrollment WHERE udid = ANY($1)", [one.udid, other.udid])
    assert len(found) == 1


async def test_a_device_and_a_claim_to_it_share_no_batch(house: House) -> None:
    """The claim bears the device's serial and waits for a person; both channels are stored."""
    device = await house.enrolled()
    claim = await newcomer(house, serial=device.serial)
    await house.check_in(claim, claim.authenticate())
    sent = [(each, each.token_update(Token=b"new")) for each in (device, claim)]
    assert {answer.status for answer in await together(house, sent)} == {200}
    found = await house.query(
        "SELECT count(*) FROM channel WHERE device_id = $1", await house.id_of(device)
    )
    assert found[0][0] == 2


async def test_completing_an_enrollment_updates_in_place(house: House) -> None:
    """No index names what a TokenUpdate changes: its updates are heap-only (HOT)."""
    indexes = await house.query(
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'enrollment'"
        " AND schemaname = current_schema()"
    )
    assert len(indexes) == 2
    assert not [one for one in indexes if "state" in one["indexdef"]]


async def test_who_has_just_authenticated_is_not_looked_up_again(house: House) -> None:
    """Once: the TokenUpdate that follows needs no look-up, the next one does."""
    device = await newcomer(house)
    looked_up = house.service.parts.values[CHECK_INS]._identities._pins._items
    await house.check_in(device, device.authenticate())
    before = looked_up._sum.get()
    assert (await house.check_in(device, device.token_update())).status == 200
    assert looked_up._sum.get() == before
    assert (await house.check_in(device, device.token_update())).status == 200
    assert looked_up._sum.get() == before + 1


@pytest.mark.parametrize("said", ["TokenUpdate", "CheckOut"])
async def test_what_is_remembered_is_not_trusted(house: House, said: str) -> None:
    """The enrollment ends between an Authenticate and what the device says next."""
    device = await newcomer(house)
    await house.check_in(device, device.authenticate())
    [row] = await house.query("SELECT enrollment_id, device_id FROM enrollment")
    async with transaction(house.service.context.pool) as tx:
        await lock_devices(tx, [row["device_id"]])
        await leaving.end_and_tell(tx, [Leaving(row["enrollment_id"], "admin")], house.clock.now())
    body = device.token_update() | {"MessageType": said}
    answer = await house.check_in(device, body)
    assert (answer.status, answer.body.split()[0]) == (400, b"certificate_revoked")
    assert await house.query("SELECT FROM channel") == []
