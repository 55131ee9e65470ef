"""A command to very many devices: in bites, resumable, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from pydantic import TypeAdapter

from services.command_queue import expansion, jobs
from services.command_queue.budgets import Budgets
from services.command_queue.store import targets
from shared.events.commands import CommandFinished, TargetState
from shared.runtime.jobs import Wake
from shared.runtime.long_bodies import PIECE
from tests.command_queue.fleet import Fleet, sendable
from tools.bench import silent

MANY = 2600
_UNKNOWN = timedelta(minutes=10)

# A process that expands until it is killed.
_EXPANDER = """
import asyncio, datetime, sys
from services.command_queue import expansion
from shared.db.pool import open_pool

async def run():
    pool = await open_pool(sys.argv[1], name="expander")
    patience = datetime.timedelta(minutes=10)
    while await expansion.expand(pool, datetime.datetime.now(datetime.UTC), patience):
        print("bite", flush=True)

asyncio.run(run())
"""


async def _many(fleet: Fleet, count: int = MANY) -> list[UUID]:
    """Devices that never speak."""
    async with fleet.trial.context.pool.acquire() as connection:
        return list(await silent.add(connection, count))


def _body(devices: Sequence[UUID], **fields: Any) -> dict[str, Any]:
    return {
        "kind": "inventory.refresh",
        "params": {"section": "security"},
        "device_ids": [str(device) for device in devices],
        "idempotency_key": str(uuid4()),
        **fields,
    }


async def _command(fleet: Fleet, devices: Sequence[UUID], **fields: Any) -> str:
    answer = await fleet.trial.call("POST", "/api/v1/commands", _body(devices, **fields))
    assert answer.status == 202, answer.body
    return str(answer.json["command_id"])


async def _bite(fleet: Fleet) -> bool:
    return bool(await expansion.expand(fleet.trial.context.pool, fleet.clock.now(), _UNKNOWN))


async def test_small_commands_share_a_bite_and_a_large_one_goes_on_alone(fleet: Fleet) -> None:
    devices = await _many(fleet, 700)
    await _command(fleet, devices[:1])  # what such devices can do is known from now on
    await _bite(fleet)
    large = await _command(fleet, devices)
    small = [await _command(fleet, devices[:100]) for _ in range(9)]
    queued = []
    for _ in range(4):
        await _bite(fleet)
        shown = [await fleet.show(command) for command in (large, *small)]
        queued.append([one["progress"].get("queued", 0) for one in shown])
    assert queued == [
        [250, *[100] * 7, 0, 0],  # 950 of at most 1000
        [250, *[100] * 9],
        [500, *[100] * 9],
        [700, *[100] * 9],
    ]


async def test_every_target_is_queued_once_and_told_of_once(fleet: Fleet) -> None:
    devices = await _many(fleet)
    command = await _command(fleet, [*devices, *devices[:100]])
    bites = 0
    while await _bite(fleet):
        bites += 1
        progress = (await fleet.show(command))["progress"]
        assert sum(progress.values()) == MANY
        assert progress["queued"] == min(bites * targets.CHUNK, MANY)
    assert bites == 11
    told = await fleet.queued()
    assert sorted(event.device_id for event in told) == sorted(devices)
    rows = await fleet.rows("SELECT device_id, channel_id FROM pending")
    assert {(row["device_id"], row["channel_id"]) for row in rows} == {
        (event.device_id, event.channel_id) for event in told
    }
    assert {str(event.command_id) for event in told} == {command}
    assert len({event.meta.event_id for event in told}) == bites
    assert {event.meta.causation_id for event in told} == {command}
    assert {event.meta.event_id.version for event in told} == {7}


async def test_an_urgent_command_does_not_wait_for_the_large_ones(fleet: Fleet) -> None:
    devices = await _many(fleet)
    large = [await _command(fleet, devices) for _ in range(2)]
    await _bite(fleet)
    await _bite(fleet)
    phone = await fleet.enroll()
    lock = await fleet.ask(phone, kind="device.lock", expand=False)
    await _bite(fleet)
    given = await phone.idle()
    assert given is not None
    assert given.command_uuid == lock["command_id"]
    # And the large ones take turns.
    await _bite(fleet)
    await _bite(fleet)
    left = [(await fleet.show(one))["progress"]["unexpanded"] for one in large]
    assert abs(left[0] - left[1]) <= targets.CHUNK


async def test_a_command_that_another_process_took_in_ends_the_rest_of_a_large_one(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_LONGEST_REST", 3600.0)
    context = fleet.trial.context
    settings = context.settings.model_copy(update={"fan_out_share": 1e-6})
    # Its wakers are never called: as in a process of its own.
    budgets = Budgets(context.pool, fleet.clock, settings)
    apart = jobs.jobs(settings, context.pool, context.road, fleet.clock, budgets, Wake(), Wake())
    expand = next(job for job in apart if job.name == "expand targets")
    devices = await _many(fleet)
    await _command(fleet, devices)
    assert await expand.run()
    rests = asyncio.ensure_future(expand.run())
    while len(await fleet.queued()) < 2 * targets.CHUNK:  # noqa: ASYNC110 - it is in the database
        await asyncio.sleep(0.01)
    assert not rests.done()
    urgent = await _command(fleet, devices[:1])
    async with asyncio.timeout(60):
        await rests
        await expand.run()
    assert (await fleet.show(urgent))["progress"] == {"queued": 1}


async def test_the_higher_priority_goes_first_among_equals(fleet: Fleet) -> None:
    devices = await _many(fleet, 400)
    low = await _command(fleet, devices)
    high = await _command(fleet, devices, priority=10)
    await _bite(fleet)
    assert (await fleet.show(high))["progress"] == {"unexpanded": 150, "queued": 250}
    assert (await fleet.show(low))["progress"] == {"unexpanded": 400}


async def test_a_cancel_in_the_middle_leaves_no_target_open(fleet: Fleet) -> None:
    devices = await _many(fleet)
    command = await _command(fleet, devices)
    await _bite(fleet)
    answer = await fleet.trial.call(
        "POST", f"/api/v1/commands/{command}/cancel", {"reason": "wrong"}
    )
    assert answer.json == {"cancelled": True}
    assert (await fleet.show(command))["progress"] == {"cancelled": MANY}
    await fleet.job("expand targets")
    await fleet.job("sweep ended commands")
    ends = await fleet.rows("SELECT state, count(*) AS targets FROM outcome GROUP BY state")
    assert ends == [{"state": "cancelled", "targets": MANY}]
    assert await fleet.rows("SELECT FROM pending UNION ALL SELECT FROM target") == []
    events = await fleet.events()
    ended = [event for event in events if isinstance(event, CommandFinished)]
    assert {event.state for event in ended} == {TargetState.CANCELLED}
    assert sorted(event.device_id for event in ended) == sorted(devices)
    # Only the first bite was ever told of as queued.
    assert len(await fleet.queued()) == targets.CHUNK
    assert (await fleet.show(command))["state"] == "cancelled"


async def test_a_killed_process_loses_and_repeats_nothing(fleet: Fleet) -> None:
    devices = await _many(fleet)
    command = await _command(fleet, devices)
    dsn = fleet.trial.context.settings.database_url
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _EXPANDER, dsn, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"bite\n"
        process.kill()
        await process.wait()
    left = (await fleet.show(command))["progress"]
    assert sum(left.values()) == MANY
    await fleet.job("expand targets")
    assert (await fleet.show(command))["progress"] == {"queued": MANY}
    assert sorted(target.device_id for target in await fleet.queued()) == sorted(devices)


async def test_two_processes_share_the_chunks_and_expand_none_twice(fleet: Fleet) -> None:
    devices = await _many(fleet)
    command = await _command(fleet, devices)

    async def expand_all() -> None:
        while await _bite(fleet):
            pass

    await asyncio.gather(expand_all(), expand_all())
    assert (await fleet.show(command))["progress"] == {"queued": MANY}
    assert len(await fleet.queued()) == MANY


async def test_the_list_of_a_hundred_thousand_holds_nobody_up(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read and checked in pieces, and the event loop turns between any two of them."""
    turns = 0
    pieces: list[tuple[int, int, int]] = []
    whole: list[int] = []
    check, loads = TypeAdapter.validate_json, orjson.loads

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def noting(adapter: TypeAdapter[Any], value: Any, **more: Any) -> Any:
        found = check(adapter, value, **more)
        pieces.append((len(value), len(found), turns))
        return found

    def weighed(data: bytes) -> Any:
        whole.append(len(data))
        return loads(data)

    monkeypatch.setattr(TypeAdapter, "validate_json", noting)
    monkeypatch.setattr("orjson.loads", weighed)
    body = sendable(orjson.dumps(_body([uuid4() for _ in range(100_000)])))
    headers = {
        "Authorization": f"Bearer {fleet.trial.token()}",
        "Content-Type": "application/json",
    }
    other = asyncio.create_task(turn())
    answer = await fleet.trial.send("api", "POST", "/api/v1/commands", body, headers)
    other.cancel()
    assert sum(ids for _, ids, _ in pieces) == 100_000
    assert max(size for size, _, _ in pieces) < PIECE + 100
    assert len({when for _, _, when in pieces}) == len(pieces)
    assert max(whole) < PIECE
    command = answer.json["command_id"]
    assert (await fleet.show(command))["progress"] == {"unexpanded": 100_000}
    [chunks] = await fleet.rows("SELECT count(*) AS rows, max(size) AS most FROM target")
    assert chunks == {"rows": 400, "most": targets.CHUNK}


@pytest.mark.parametrize("broken", ['"x"', "7", "null"])
async def test_one_bad_id_in_a_long_list_is_refused(fleet: Fleet, broken: str) -> None:
    ids = ",".join(f'"{uuid4()}"' for _ in range(3000))
    body = '{"kind": "inventory.refresh", "idempotency_key": "k", "device_ids": ['
    answer = await fleet.trial.send(
        "api",
        "POST",
        "/api/v1/commands",
        f"{body}{ids},{broken}]}}".encode(),
        {
            "Authorization": f"Bearer {fleet.trial.token()}",
            "Content-Type": "application/json",
        },
    )
    assert answer.status == 422
    assert answer.json["code"] == "body_invalid"
