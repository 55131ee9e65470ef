"""A fleet: enrolled together, woken by pushes, remembered, reported."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.simulator.responder import TOPIC, Responder
from tools.simulator import main as program
from tools.simulator.device import SimulatedDevice
from tools.simulator.fleet import Fleet, Habits
from tools.simulator.keys import KeyStore
from tools.simulator.memory import Memory
from tools.simulator.pushes import Address, Mailroom, listen
from tools.simulator.report import Tally, final, show_progress

NORMAL = {"normal": 1}


@asynccontextmanager
async def living(fleet: Fleet) -> AsyncIterator[None]:
    life = asyncio.create_task(fleet.live())
    yield
    life.cancel()
    with suppress(asyncio.CancelledError):
        await life


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another task does; the test's own time limit bounds it."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event to await
        await asyncio.sleep(0.01)


def make_fleet(
    session: aiohttp.ClientSession,
    responder: Responder,
    keys: KeyStore,
    count: int = 3,
    *,
    memory: Memory | None = None,
    **habits: Any,
) -> Fleet:
    habits = {"behaviours": NORMAL, **habits}
    devices = [SimulatedDevice("fleet", index, keys=keys) for index in range(count)]
    return Fleet(devices, [responder.enroll_url], session, habits=Habits(**habits), memory=memory)


async def test_a_fleet_enrolls_and_empties_its_queues(
    responder: Responder, device_session: aiohttp.ClientSession, simulator_keys: KeyStore
) -> None:
    fleet = make_fleet(device_session, responder, simulator_keys)
    udids = [member.device.udid for member in fleet.members]
    waiting = [responder.queue(udid, "SecurityInfo") for udid in udids]
    await fleet.enroll()
    assert {message["UDID"] for message in responder.said("TokenUpdate")} == set(udids)
    assert all(responder.results[uuid]["Status"] == "Acknowledged" for uuid in waiting)
    report = final(fleet.tally, [member.device for member in fleet.members])
    assert (report["enrolled"], report["not_enrolled"]) == (3, [])
    assert report["commands"] == {"SecurityInfo": 3}
    assert report["answers"] == {"Acknowledged": 3}
    assert (report["repeated_commands"], report["complaints"]) == (0, {})


async def test_who_cannot_enroll_is_named(
    responder: Responder, device_session: aiohttp.ClientSession, simulator_keys: KeyStore
) -> None:
    responder.profile_uses = 2
    fleet = make_fleet(device_session, responder, simulator_keys)
    await fleet.enroll()
    assert fleet.tally.enrolled == 2
    [refused] = fleet.tally.not_enrolled
    assert "410" in refused["why"]
    assert refused["udid"] in {member.device.udid for member in fleet.members}


async def test_a_push_wakes_its_device_only(
    responder: Responder, device_session: aiohttp.ClientSession, simulator_keys: KeyStore
) -> None:
    fleet = make_fleet(device_session, responder, simulator_keys)
    await fleet.enroll()
    listening = asyncio.create_task(listen(device_session, responder.url, fleet.mailroom))
    await until(lambda: len(responder.streams) == 1)
    async with living(fleet):
        chosen, other = fleet.members[0].device, fleet.members[1].device
        command = responder.queue(chosen.udid, "SecurityInfo")
        unseen = responder.queue(other.udid, "SecurityInfo")
        push = chosen.managed.push
        responder.push(push.token, "not the magic")
        responder.push(push.token, push.magic, topic="com.apple.mgmt.other")
        responder.push(b"nobody's token", "magic")
        responder.push(push.token, push.magic)
        await until(lambda: command in responder.results)
    listening.cancel()
    assert unseen not in responder.results
    assert fleet.tally.pushes == {
        "wrong magic": 1,
        "wrong topic": 1,
        "unknown token": 1,
        "delivered": 1,
    }


async def test_a_lost_stream_is_opened_again(
    responder: Responder, device_session: aiohttp.ClientSession
) -> None:
    listening = asyncio.create_task(listen(device_session, responder.url, Mailroom(Counter())))
    await until(lambda: len(responder.streams) == 1)
    first = responder.streams[0]
    first.put_nowait(b"")
    await until(lambda: responder.streams not in ([], [first]))
    listening.cancel()


def test_equal_tokens_are_told_apart_by_their_magic() -> None:
    counts: Counter[str] = Counter()
    woken: list[str] = []
    mailroom = Mailroom(counts)
    for name in ("first", "second"):
        address = Address(b"123456789", name, TOPIC)
        mailroom.register(address, lambda name=name: woken.append(name))  # type: ignore[misc]
    token = b"123456789".hex().upper()
    push = {"token": token, "topic": TOPIC, "payload": {"mdm": "second"}}
    mailroom.deliver(json.dumps(push).encode())
    assert woken == ["second"]
    mailroom.forget(Address(b"123456789", "second", TOPIC))
    mailroom.deliver(json.dumps(push).encode())
    assert counts == {"delivered": 1, "wrong magic": 1}


@pytest.mark.parametrize("line", [b"", b"rubbish", b"[]", b'{"token": 1}', b"\xff\xfe"])
def test_unreadable_pushes_are_counted(line: bytes) -> None:
    counts: Counter[str] = Counter()
    Mailroom(counts).deliver(line)
    assert counts == {"unreadable": 1}


async def test_polling_and_user_channels(
    responder: Responder, device_session: aiohttp.ClientSession, simulator_keys: KeyStore
) -> None:
    mac = SimulatedDevice("fleet", 5, kind="mac", keys=simulator_keys)
    habits = Habits(behaviours=NORMAL, poll_every=0.05, user_channels=True)
    fleet = Fleet([mac], [responder.enroll_url], device_session, habits=habits)
    await fleet.enroll()
    async with living(fleet):
        commands = [
            responder.queue(mac.udid, "ProfileList", user=user)
            for user in (None, mac.traits.user.user_id)
        ]
        await until(lambda: set(commands) <= set(responder.results))


async def test_a_silent_device_enrolls_and_is_not_heard_again(
    responder: Responder, device_session: aiohttp.ClientSession, simulator_keys: KeyStore
) -> None:
    fleet = make_fleet(
        device_session, responder, simulator_keys, 1, behaviours={"silent": 1}, poll_every=0.01
    )
    await fleet.enroll()
    await fleet.live()
    assert fleet.tally.enrolled == 1
    assert not [heard for heard in responder.heard if heard.path.endswith("connect")]


async def test_a_refusing_device_comes_back_by_itself(
    responder: Responder, device_session: aiohttp.ClientSession, simulator_keys: KeyStore
) -> None:
    fleet = make_fleet(
        device_session,
        responder,
        simulator_keys,
        1,
        behaviours={"notnow": 1},
        after_not_now=(0.01, 0.02),
    )
    command = responder.queue(fleet.members[0].device.udid, "SecurityInfo")
    await fleet.enroll()
    async with living(fleet):
        await until(lambda: responder.results[command]["Status"] == "Acknowledged")
    assert fleet.tally.answers == {"NotNow": 1, "Acknowledged": 1}


async def test_an_erased_device_begins_again(
    responder: Responder, device_session: aiohttp.ClientSession, simulator_keys: KeyStore
) -> None:
    fleet = make_fleet(device_session, responder, simulator_keys, 1, re_enroll=True, off_for=0.01)
    device = fleet.members[0].device
    responder.queue(device.udid, "EraseDevice")
    await fleet.enroll()
    async with living(fleet):
        await until(lambda: len(responder.said("TokenUpdate")) == 2)
    assert fleet.tally.ended == 1


async def test_the_next_run_goes_on_with_the_same_enrollments(
    responder: Responder,
    device_session: aiohttp.ClientSession,
    simulator_keys: KeyStore,
    tmp_path: Path,
) -> None:
    first = make_fleet(
        device_session, responder, simulator_keys, memory=Memory(tmp_path / "memory")
    )
    await first.enroll()
    heard = len(responder.said("Authenticate"))
    again = make_fleet(
        device_session, responder, simulator_keys, memory=Memory(tmp_path / "memory")
    )
    udid = again.members[0].device.udid
    command = responder.queue(udid, "ProfileList")
    await again.enroll()
    assert (again.tally.enrolled, again.tally.restored) == (0, 3)
    assert len(responder.said("Authenticate")) == heard
    listed = responder.results[command]["ProfileList"]
    assert [one["PayloadIdentifier"] for one in listed] == ["test.enrollment"]
    for before, after in zip(first.members, again.members, strict=True):
        assert before.device.managed.push == after.device.managed.push
        assert before.device.state.apps == after.device.state.apps
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "memory").iterdir()}
    assert modes == {0o600}


async def test_erasure_is_remembered_too(
    responder: Responder,
    device_session: aiohttp.ClientSession,
    simulator_keys: KeyStore,
    tmp_path: Path,
) -> None:
    memory = Memory(tmp_path / "memory")
    fleet = make_fleet(device_session, responder, simulator_keys, 1, memory=memory)
    device = fleet.members[0].device
    responder.queue(device.udid, "EraseDevice")
    await fleet.enroll()
    recalled = SimulatedDevice("fleet", 0, keys=simulator_keys)
    assert not memory.restore(recalled)
    assert (recalled.life, recalled.state) == (device.life, device.state)


async def test_progress_is_written_when_it_changes() -> None:
    tally, out = Tally(devices=2), io.StringIO()
    showing = asyncio.create_task(show_progress(tally, out))
    await until(lambda: bool(out.getvalue()))
    tally.enrolled = 2
    showing.cancel()
    with suppress(asyncio.CancelledError):
        await showing
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("0/2 enrolled")
    assert lines[-1].startswith("2/2 enrolled")


async def run_program(*arguments: str | Path) -> tuple[int, str, str]:
    """`python -m tools.simulator …` as the command line runs it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.simulator", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_program_enrolls_a_fleet(responder: Responder, tmp_path: Path) -> None:
    arguments = (
        *("apple", "--devices", "3", "--enroll-url", responder.enroll_url, "--json"),
        *("--trust", responder.trust, "--state", tmp_path / "fleet", "--duration", "0"),
        *("--behaviours", "normal", "--apns-stand-in", responder.url, "--seed", "program"),
    )
    code, out, err = await run_program(*arguments)
    assert code == 0, err
    assert json.loads(out)["enrolled"] == 3
    assert "3/3 enrolled" in err
    code, out, _ = await run_program(*arguments)
    assert (code, json.loads(out)["restored"]) == (0, 3)


async def test_the_program_says_who_could_not_enroll(responder: Responder, tmp_path: Path) -> None:
    responder.profile_uses = 1
    addresses = tmp_path / "urls"
    addresses.write_text(f"{responder.enroll_url}\n{responder.enroll_url}\n")
    code, out, _ = await run_program(
        *("apple", "--devices", "2", "--enroll-urls", addresses, "--json"),
        *("--trust", responder.trust, "--duration", "0"),
    )
    assert code == 1
    assert len(json.loads(out)["not_enrolled"]) == 1


async def test_an_interrupted_program_still_reports(responder: Responder) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tools.simulator", "apple", "--devices", "1", "--json"),
        *("--enroll-url", responder.enroll_url, "--trust", str(responder.trust)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    await until(lambda: bool(responder.said("TokenUpdate")))
    process.send_signal(signal.SIGTERM)
    out, err = await process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["devices"] == 1


def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = tmp_path / "urls"
    few.write_text("https://localhost/one\n")
    assert program.main(["apple", "--devices", "2", "--enroll-urls", str(few)]) == 2
    assert "1 URLs for 2 devices" in capsys.readouterr().err
    base = ["apple", "--enroll-url", "https://localhost/"]
    for wrong in (["--devices", "0"], ["--devices", "1", "--kinds", "toaster=1"]):
        with pytest.raises(SystemExit) as raised:
            program.main([*base, *wrong])
        assert raised.value.code == 2
