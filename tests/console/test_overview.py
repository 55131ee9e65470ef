"""The fleet in numbers that are kept, and what happened, in sentences."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.console.store import view_tallies as tallies
from services.console.views.sentences import DEVICE, command_text, sentence
from shared.db.pool import transaction
from shared.events import uuid7
from shared.events.commands import (
    CommandCancelled,
    CommandClass,
    CommandContinued,
    CommandCreated,
    CommandFinished,
    CommandReleased,
    TargetState,
)
from shared.events.compliance import PolicyChanged, VerdictState
from shared.events.devices import (
    CertificateIssued,
    CertificateRevoked,
    DeviceChanged,
    DeviceEnrolled,
    DeviceQuarantined,
    DeviceUnenrolled,
    Ownership,
    Platform,
)
from shared.events.pushes import PushCertificateChanged
from tests.console.auditing import did, hear
from tests.console.auditing import told as recorded
from tests.console.fleet import START, Console

COUNT_ALL = """
SELECT 'status' AS dimension, status AS value, count(*) AS count FROM device
WHERE sequence > 0 GROUP BY status
UNION ALL
SELECT 'platform', platform, count(*) FROM device WHERE status = 'enrolled' GROUP BY platform
UNION ALL
SELECT 'compliance', compliance, count(*) FROM device WHERE status = 'enrolled' GROUP BY compliance
UNION ALL
SELECT 'os', platform || ' ' || os_version, count(*) FROM device
WHERE status = 'enrolled' AND os_version IS NOT NULL GROUP BY 1, 2
"""


async def _kept(view: Console) -> set[tuple[str, str, int]]:
    async with transaction(view.service.context.pool) as tx:
        found = await tallies.read(tx, ["status", "platform", "compliance", "os"])
    return {(name, value, count) for name, of in found.items() for value, count in of.items()}


async def _counted(view: Console) -> set[tuple[str, str, int]]:
    rows = await view.service.context.pool.fetch(COUNT_ALL)
    return {tuple(row) for row in rows}


async def test_numbers_follow_every_change(view: Console) -> None:
    policy_id = uuid7()
    first = await view.device(os_version="17.4")
    second = await view.device(platform=Platform.MACOS, status="pending")
    await view.facts(first, os__version="17.5")
    assert await _kept(view) == await _counted(view)
    await view.device(second, platform=Platform.MACOS, os_version="15.1")
    await view.verdict(first, policy_id, VerdictState.NONCOMPLIANT)
    await view.verdict(first, policy_id, VerdictState.COMPLIANT)
    await view.verdict(second, policy_id, VerdictState.STALE)
    assert await _kept(view) == await _counted(view)
    counts = (await view.overview())["counts"]
    assert counts["compliance"] == {"compliant": 1, "stale": 1}
    assert counts["os"] == {"ios 17.5": 1, "macos 15.1": 1}
    await view.device(first, status="ended")
    assert await _kept(view) == await _counted(view)
    assert (await view.overview())["counts"]["status"] == {"ended": 1, "enrolled": 1}


async def test_an_older_verdict_changes_nothing(view: Console) -> None:
    device_id, policy_id = await view.device(), uuid7()
    await view.verdict(device_id, policy_id, VerdictState.COMPLIANT, sequence=10**9)
    await view.verdict(device_id, policy_id, VerdictState.NONCOMPLIANT, sequence=10**9 - 1)
    [verdict] = (await view.get(f"/devices/{device_id}/verdicts")).json["items"]
    assert (verdict["state"], verdict["policy_name"]) == ("compliant", "Baseline")
    assert verdict["findings"] == [{"rule": "passcode", "state": "compliant", "reason": "value"}]
    [policy] = (await view.overview())["policies"]
    assert policy["counts"] == {"compliant": 1}


async def test_verdicts_of_a_deleted_policy_go_in_chunks(
    view: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.console.views.verdicts._CHUNK", 2)
    gone, kept = uuid7(), uuid7()
    devices = [await view.device(name=str(n)) for n in range(5)]
    for device_id in devices:
        await view.verdict(device_id, gone, VerdictState.NONCOMPLIANT)
        await view.verdict(device_id, kept, VerdictState.COMPLIANT)
    event = PolicyChanged(policy_id=gone, version=2, name="Baseline", actor="ada", deleted=True)
    await view.service.hears(event, service="compliance")
    while await view.service.run_job("clear_verdicts"):
        pass
    await view.verdict(devices[0], gone, VerdictState.ERROR)
    found = await view.overview()
    assert found["counts"]["compliance"] == {"compliant": 5}
    assert [row["policy_id"] for row in found["policies"]] == [str(kept)]
    assert await view.names(failing=gone) == []


def _enrolled(device_id: UUID, **changes: Any) -> DeviceEnrolled:
    return DeviceEnrolled(
        device_id=device_id,
        enrollment_id=uuid7(),
        generation=1,
        channel_id=device_id,
        platform=Platform.IOS,
        ownership=Ownership.CORPORATE,
        enrolled_at=START,
        **changes,
    )


async def test_what_happened_is_told_in_sentences(view: Console) -> None:
    hears = view.service.hears
    device_id, command_id = await view.device(name="Ada's iPhone"), uuid7()
    await hears(_enrolled(device_id), _enrolled(device_id, again=True), service="enrollment")
    await hears(
        DeviceChanged(
            device_id=device_id,
            actor="ada",
            before={"name": "a", "tags": []},
            after={"name": "b", "tags": []},
        ),
        DeviceQuarantined(device_id=device_id, enrollment_id=uuid7(), reasons=["serial_unlisted"]),
        DeviceUnenrolled(
            device_id=device_id, enrollment_id=uuid7(), generation=1, reason="check_out"
        ),
        service="enrollment",
    )
    await hears(
        CommandCreated(
            command_id=command_id,
            kind="device.erase",
            command_class=CommandClass.DESTRUCTIVE,
            state="held",
            actor="ada",
            target_count=1200,
            expires_at=START,
        ),
        _finished(device_id, command_id, "device.erase", TargetState.FAILED),
        CommandCancelled(command_id=command_id, actor="ada", reason="wrong floor"),
        CommandReleased(command_id=uuid7(), approvers=["bob"], released_at=START),
        CommandReleased(command_id=uuid7(), approvers=["a", "b", "cleo"], released_at=START),
        service="command_queue",
    )
    told = [row["text"] for row in (await view.get("/activity")).json["items"]]
    assert sorted(told) == sorted(
        [
            "Ada's iPhone enrolled",
            "Ada's iPhone enrolled again",
            "ada changed name of Ada's iPhone",
            "What claims to be Ada's iPhone waits in the lobby: its serial is not on the list",
            "Ada's iPhone left management: its profile was removed",
            "ada asked to erase 1,200 devices, held for approval",
            "Asked by ada to erase Ada's iPhone: the device failed",
            "ada cancelled a command: wrong floor",
            "bob approved a held command: it runs",
            "cleo and 2 more approved a held command: it runs",
        ]
    )
    of_device = (await view.get(f"/devices/{device_id}/activity")).json["items"]
    assert len(of_device) == 6


async def test_what_is_done_to_a_command_names_it(view: Console) -> None:
    device_id, lock, wide = await view.device(name="Ada's iPhone"), uuid7(), uuid7()
    one = {"kind": "device.lock", "targets": 1, "device": str(device_id)}
    many = {"kind": "configuration.install", "targets": 1200}
    for command_id, after in ((lock, one), (wide, many)):
        entry = did("command.create", target=str(command_id), after=after)
        await hear(view.service, recorded(entry))
    await view.service.hears(
        CommandReleased(command_id=lock, approvers=["bob"], released_at=START),
        CommandContinued(command_id=wide, actor="ada", answered=5, targets=1195),
        CommandCancelled(command_id=wide, actor="ada", reason="wrong floor"),
        service="command_queue",
    )
    assert {row["text"] for row in (await view.get("/activity")).json["items"]} == {
        "bob approved “Lock Ada's iPhone”: it runs",
        "ada let “Install a profile on 1,200 devices” go on to 1,195 more devices",
        "ada cancelled “Install a profile on 1,200 devices”: wrong floor",
    }


def _finished(
    device_id: UUID, command_id: UUID, kind: str, outcome: TargetState
) -> CommandFinished:
    return CommandFinished(
        device_id=device_id,
        command_id=command_id,
        kind=kind,
        state=outcome,
        actor="ada",
        queued_at=START,
        finished_at=START,
    )


async def test_the_daily_round_is_counted_and_not_told(view: Console) -> None:
    device_id = await view.device()
    await view.service.hears(
        CommandCreated(
            command_id=uuid7(),
            kind="inventory.refresh",
            command_class=CommandClass.HARMLESS,
            state="active",
            actor="service:inventory",
            target_count=1,
            expires_at=START,
        ),
        _finished(device_id, uuid7(), "inventory.refresh", TargetState.ACKNOWLEDGED),
        service="command_queue",
    )
    found = await view.overview()
    assert found["activity"] == []
    view.clock.advance(datetime.now(UTC) - START)
    trend = (await view.overview())["trend"]
    assert list(trend["command.acknowledged"].values()) == [1]


async def test_the_feed_pages(view: Console) -> None:
    for number in range(5):
        await view.service.hears(
            _enrolled(await view.device(name=str(number))), service="enrollment"
        )
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await view.get("/activity", limit=2, **cursor)).json
        seen += [row["device_name"] for row in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert sorted(seen) == ["0", "1", "2", "3", "4"]


async def test_certificates_that_end_soon_are_told(view: Console) -> None:
    device_id = await view.device(name="soon")
    until = START + timedelta(days=3)
    issued = CertificateIssued(device_id=device_id, sha256="aa", serial_number="1", not_after=until)
    renewed = issued.model_copy(
        update={"sha256": "bb", "not_after": START + timedelta(days=365), "renewal": True}
    )
    await view.service.hears(issued, service="enrollment")
    await view.service.hears(
        PushCertificateChanged(topic="com.apple.mgmt.x", fingerprint="f", not_after=until),
        service="push_notifier",
    )
    found = await view.overview()
    assert [row["name"] for row in found["expiring"]] == ["soon"]
    assert [row["topic"] for row in found["push_certificates"]] == ["com.apple.mgmt.x"]
    assert await view.names(expiring="true") == ["soon"]
    await view.service.hears(renewed, service="enrollment")
    assert await view.names(expiring="true") == []
    revoked = CertificateRevoked(
        device_id=device_id, sha256="bb", serial_number="2", reason="superseded"
    )
    await view.service.hears(revoked, service="enrollment")
    assert await view.names(expiring="true") == ["soon"]


async def test_a_certificate_that_came_before_its_device_counts_with_it(view: Console) -> None:
    device_id, other = uuid7(), uuid7()
    for named, days in ((device_id, 3), (other, 300)):
        until = START + timedelta(days=days)
        issued = CertificateIssued(
            device_id=named, sha256=named.hex, serial_number="1", not_after=until
        )
        await view.service.hears(issued, service="enrollment")
    assert (await view.overview())["expiring"] == []
    await view.device(device_id, name="soon")
    await view.device(other, name="later")
    assert await view.names(expiring="true") == ["soon"]
    await view.device(device_id, name="soon still")
    assert await view.names(expiring="true") == ["soon still"]
    assert [row["certificate_until"][:10] for row in (await view.overview())["expiring"]] == [
        (START + timedelta(days=3)).date().isoformat()
    ]


async def test_old_activity_is_dropped(view: Console) -> None:
    await view.service.hears(_enrolled(await view.device()), service="enrollment")
    view.clock.advance(datetime.now(UTC) - START)
    await view.service.run_job("forget_activity")
    assert len((await view.get("/activity")).json["items"]) == 1
    view.clock.advance(timedelta(days=98))
    await view.service.run_job("forget_activity")
    assert (await view.get("/activity")).json["items"] == []


def test_every_kind_has_a_sentence_and_unknown_ones_their_name() -> None:
    row = {"kind": "verdict.changed", "actor_name": None}
    detail = {"policy": "Baseline", "state": "stale"}
    assert sentence(row | {"detail": detail}) == f"{DEVICE} was judged too long ago by Baseline"
    assert sentence({"kind": "x.y", "actor_name": None, "detail": {}}) == "x.y"
    assert command_text("configuration.install") == "Install a profile"
    assert command_text("app.sideload") == "App.sideload"
