"""Reports on a real database: what is stored, what is told, what is history."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import pytest

from shared.bus import apply
from shared.bus.testing import travelled
from shared.events import uuid7
from shared.events.commands import CommandAnswerPart, CommandRequested, TargetState
from shared.events.inventory import (
    ApplicationsChanged,
    CertificatesChanged,
    FactChange,
    FactsChanged,
    ProfilesChanged,
    SectionReported,
)


async def facts(inventory: Any, device_id: UUID, at: Any = None) -> dict[str, Any]:
    query = "" if at is None else f"?at={at.isoformat().replace('+', '%2B')}"
    answer = await inventory.service.call(
        "GET", f"/api/v1/inventory/devices/{device_id}/facts{query}"
    )
    assert answer.status == 200, answer.text
    return {row["name"]: row["value"] for row in answer.json["items"]}


async def test_a_first_report_is_told_whole_and_a_second_only_by_its_changes(
    inventory: Any,
) -> None:
    device = await inventory.device()
    told = await inventory.reports(
        device, "device_information", {"OSVersion": "17.4", "DeviceName": "Ada"}
    )
    assert told.of(FactsChanged)[0].changes == [
        FactChange(name="device.name", value="Ada"),
        FactChange(name="os.version", value="17.4"),
    ]
    (reported,) = told.of(SectionReported)
    assert reported.first
    assert reported.answered == ["device.name", "os.version"]
    assert told.events[-1] is reported

    inventory.later(minutes=1)
    told = await inventory.reports(
        device, "device_information", {"OSVersion": "17.5", "DeviceName": "Ada"}
    )
    assert [event.changes for event in told.of(FactsChanged)] == [
        [FactChange(name="os.version", value="17.5", before="17.4")]
    ]
    assert not told.of(SectionReported)

    inventory.later(minutes=1)
    told = await inventory.reports(
        device, "device_information", {"OSVersion": "17.5", "DeviceName": "Ada"}
    )
    assert not told.events


async def test_a_fact_can_be_read_at_an_instant(inventory: Any) -> None:
    device = await inventory.device()
    before = inventory.clock.now()
    moments = []
    for version in ("17.4", "17.5", "17.5", "17.4"):
        moments.append(inventory.later(hours=1))
        await inventory.reports(device, "device_information", {"OSVersion": version})
    assert await facts(inventory, device, before) == {}
    seen = [(await facts(inventory, device, at))["os.version"] for at in moments]
    assert seen == ["17.4", "17.5", "17.5", "17.4"]
    assert await facts(inventory, device) == {"os.version": "17.4"}

    answer = await inventory.service.call(
        "GET", f"/api/v1/inventory/devices/{device}/history?name=os.version&limit=2"
    )
    periods = answer.json["items"]
    assert [period["value"] for period in periods] == ["17.4", "17.5"]
    assert periods[0]["valid_until"] is None
    assert periods[1]["valid_until"] == periods[0]["valid_from"]
    answer = await inventory.service.call(
        "GET",
        f"/api/v1/inventory/devices/{device}/history?name=os.version&cursor={answer.json['next']}",
    )
    assert [period["value"] for period in answer.json["items"]] == ["17.4"]
    assert answer.json["next"] is None


async def test_an_older_report_changes_nothing(inventory: Any) -> None:
    device = await inventory.device()
    old = inventory.finished(device, "device_information", {"OSVersion": "16"})
    (old,) = travelled(old, service="command_queue")
    await inventory.reports(device, "device_information", {"OSVersion": "17"})
    service = inventory.service
    await apply(service.context.pool, "inventory", service.parts.handlers, [old])
    assert not (await inventory.told()).events
    assert await facts(inventory, device) == {"os.version": "17"}


async def test_what_a_device_stops_answering_keeps_its_value_and_loses_its_confirmation(
    inventory: Any,
) -> None:
    device = await inventory.device()
    first = inventory.clock.now()
    await inventory.reports(device, "device_information", {"OSVersion": "17", "DeviceName": "A"})
    inventory.later(hours=1)
    told = await inventory.reports(device, "device_information", {"OSVersion": "17"})
    assert [event.answered for event in told.of(SectionReported)] == [["os.version"]]
    assert not told.of(SectionReported)[0].first
    assert not told.of(FactsChanged)
    answer = await inventory.service.call("GET", f"/api/v1/inventory/devices/{device}/facts")
    rows = {row["name"]: row for row in answer.json["items"]}
    assert rows["device.name"]["value"] == "A"
    assert rows["device.name"]["observed_at"] == first.isoformat().replace("+00:00", "Z")
    assert rows["os.version"]["observed_at"] > rows["device.name"]["observed_at"]


async def test_unchanged_facts_are_confirmed_every_few_hours(inventory: Any) -> None:
    device = await inventory.device()
    announced = []
    for _ in range(8):
        told = await inventory.reports(device, "security", {"PasscodePresent": True})
        announced.append(len(told.of(SectionReported)))
        inventory.later(hours=2)
    assert announced == [1, 0, 0, 1, 0, 0, 1, 0]


async def test_a_new_generation_of_an_enrollment_reports_anew(inventory: Any) -> None:
    device = await inventory.device()
    answer = {"PasscodePresent": True}
    await inventory.reports(device, "security", answer)
    told = await inventory.reports(device, "security", answer, generation=2)
    assert [event.first for event in told.of(SectionReported)] == [True]


async def test_applications_are_compared_with_the_whole_last_list(inventory: Any) -> None:
    device = await inventory.device()
    one, two = {"Identifier": "app.one", "ShortVersion": "1"}, {"Identifier": "app.two"}
    began = inventory.clock.now()
    told = await inventory.reports(device, "applications", [one, two])
    (changed,) = told.of(ApplicationsChanged)
    assert [app.identifier for app in changed.installed] == ["app.one", "app.two"]
    assert told.events[-1] == told.of(SectionReported)[0]

    inventory.later(hours=1)
    told = await inventory.reports(device, "applications", [{**one, "ShortVersion": "2"}])
    (changed,) = told.of(ApplicationsChanged)
    assert [(app.identifier, app.short_version) for app in changed.updated] == [("app.one", "2")]
    assert [app.identifier for app in changed.removed] == ["app.two"]
    assert not changed.installed

    base = f"/api/v1/inventory/devices/{device}"
    now = (await inventory.service.call("GET", f"{base}/applications")).json
    assert [(a["identifier"], a["short_version"]) for a in now["items"]] == [("app.one", "2")]
    at = began.strftime("%Y-%m-%dT%H:%M:%SZ")
    past = (await inventory.service.call("GET", f"{base}/applications?at={at}")).json
    assert [a["identifier"] for a in past["items"]] == ["app.one", "app.two"]
    history = (await inventory.service.call("GET", f"{base}/history?section=applications")).json
    assert [(p["name"], p["valid_until"] is None) for p in history["items"]] == [
        ("app.one", True),
        ("app.two", False),
        ("app.one", False),
    ]


async def test_long_lists_come_as_several_events(inventory: Any) -> None:
    device = await inventory.device()
    rows = [{"Identifier": f"app.{n:04}"} for n in range(900)]
    told = await inventory.reports(device, "applications", rows)
    changed = told.of(ApplicationsChanged)
    assert [len(event.installed) for event in changed] == [400, 400, 100]
    assert len({app.identifier for event in changed for app in event.installed}) == 900


async def test_profiles_and_certificates_are_lists_too(inventory: Any) -> None:
    device = await inventory.device()
    wifi = {"PayloadIdentifier": "wifi", "PayloadUUID": "1", "PayloadDisplayName": "Wi-Fi"}
    told = await inventory.reports(device, "profiles", [wifi])
    assert told.of(ProfilesChanged)[0].installed[0].uuid == "1"
    told = await inventory.reports(device, "profiles", [{**wifi, "PayloadUUID": "2"}])
    assert told.of(ProfilesChanged)[0].installed[0].uuid == "2"
    told = await inventory.reports(device, "profiles", [])
    assert told.of(ProfilesChanged)[0].removed[0].identifier == "wifi"
    told = await inventory.reports(
        device, "certificates", [{"CommonName": "x", "IsIdentity": True, "Data": {"$data": "AAAA"}}]
    )
    assert told.of(CertificatesChanged)[0].installed[0].common_name == "x"
    shown = await inventory.service.call("GET", f"/api/v1/inventory/devices/{device}/certificates")
    assert shown.json["items"][0]["identity"] is True


@pytest.mark.parametrize("answer", [None, "rubbish", {"OSVersion": []}, []])
async def test_rubbish_is_no_report_of_anything(inventory: Any, answer: Any) -> None:
    device = await inventory.device()
    await inventory.reports(device, "device_information", {"OSVersion": "17"})
    told = await inventory.reports(device, "device_information", answer)
    assert not told.of(FactsChanged)
    assert await facts(inventory, device) == {"os.version": "17"}


async def test_texts_that_postgresql_cannot_hold_do_not_stop_a_batch(inventory: Any) -> None:
    device = await inventory.device()
    told = await inventory.reports(
        device,
        "applications",
        [{"Identifier": "a\0b"}, {"Identifier": "ok", "Name": "n\0"}, {"Identifier": "ok2"}],
    )
    installed = told.of(ApplicationsChanged)[0].installed
    assert [app.identifier for app in installed] == ["ok", "ok2"]


async def test_failed_commands_report_nothing(inventory: Any) -> None:
    device = await inventory.device()
    told = await inventory.reports(
        device, "device_information", {"OSVersion": "17"}, state=TargetState.FAILED
    )
    assert not told.events


async def test_a_large_answer_is_put_together_from_its_parts(inventory: Any) -> None:
    device = await inventory.device()
    text = orjson.dumps({"InstalledApplicationList": [{"Identifier": "a"}, {"Identifier": "b"}]})
    slices = [text[:10].decode(), text[10:40].decode(), text[40:].decode()]
    finished = inventory.finished(device, "applications", None, answer_parts=3)
    parts = [
        CommandAnswerPart(
            device_id=device, command_id=finished.command_id, part=n, parts=3, data=data
        )
        for n, data in enumerate(slices)
    ]
    await inventory.service.hears(*parts, finished, service="command_queue")
    told = await inventory.told()
    assert [app.identifier for app in told.of(ApplicationsChanged)[0].installed] == ["a", "b"]
    pool = inventory.service.context.pool
    assert await pool.fetchval("SELECT count(*) FROM answer_part") == 0


@pytest.mark.parametrize("given", [{1: "{}"}, {0: "{", 1: "]"}, {}])
async def test_a_large_answer_that_is_not_whole_is_left_out(
    inventory: Any, given: dict[int, str]
) -> None:
    device = await inventory.device()
    finished = inventory.finished(device, "applications", None, answer_parts=2)
    parts = [
        CommandAnswerPart(
            device_id=device, command_id=finished.command_id, part=part, parts=2, data=data
        )
        for part, data in given.items()
    ]
    await inventory.service.hears(*parts, finished, service="command_queue")
    assert not (await inventory.told()).events
    pool = inventory.service.context.pool
    assert await pool.fetchval("SELECT count(*) FROM answer_part") == 0


async def test_many_devices_in_one_batch_keep_apart(inventory: Any) -> None:
    devices = [await inventory.device() for _ in range(5)]
    events = [
        inventory.finished(device, "device_information", {"OSVersion": f"17.{n}"})
        for n, device in enumerate(devices)
    ] + [inventory.finished(device, "applications", [{"Identifier": "a"}]) for device in devices]
    await inventory.service.hears(*events, service="command_queue")
    told = await inventory.told()
    found = {event.device_id: event.changes[0].value for event in told.of(FactsChanged)}
    assert found == {device: f"17.{n}" for n, device in enumerate(devices)}
    assert {event.device_id for event in told.of(ApplicationsChanged)} == set(devices)


async def test_what_changed_on_a_device_names_the_answer_as_its_cause(inventory: Any) -> None:
    device = await inventory.device()
    (event,) = travelled(
        inventory.finished(device, "device_information", {"OSVersion": "17"}),
        service="command_queue",
    )
    service = inventory.service
    await apply(service.context.pool, "inventory", service.parts.handlers, [event])
    for told in (await inventory.told()).events:
        assert told.meta.causation_id == str(event.meta.event_id)
        assert told.meta.correlation_id == event.meta.correlation_id


@pytest.mark.parametrize("kind", ["configuration.install", "configuration.remove"])
async def test_an_acknowledged_change_of_configuration_is_read_back(
    inventory: Any, kind: str
) -> None:
    device = await inventory.device()
    event = inventory.finished(device, "profiles", None, kind=kind)
    event = event.model_copy(update={"section": None})
    await inventory.service.hears(event, service="command_queue")
    (request,) = (await inventory.told()).of(CommandRequested)
    assert request.params == {"section": "profiles"}
    assert str(event.command_id) in request.idempotency_key
    refused = event.model_copy(update={"state": TargetState.FAILED, "command_id": uuid7()})
    await inventory.service.hears(refused, service="command_queue")
    assert not (await inventory.told()).events
