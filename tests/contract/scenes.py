"""Each service with two devices that it knows: one in a group, one in another.

The events and calls are those of the services' own tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from services.command_queue.app import SERVICE as COMMAND_QUEUE
from services.compliance.app import SERVICE as COMPLIANCE
from services.console.app import SERVICE as CONSOLE
from services.enrollment.app import SERVICE as ENROLLMENT
from services.inventory.app import SERVICE as INVENTORY
from services.push_notifier.app import SERVICE as PUSH_NOTIFIER
from shared.events import uuid7
from shared.events.compliance import VerdictState
from shared.events.device_state import ChannelState, DeviceState, EnrollmentState
from shared.events.devices import DeviceUnenrolled, Ownership, Platform
from shared.events.groups import DeviceGroups
from shared.runtime.clock import FixedClock
from shared.runtime.testing import RecordedCalls, Trial, trial
from shared.sealed import ensure_service_keys
from tests.command_queue.fleet import Fleet, Phone
from tests.compliance.conftest import ComplianceTrial
from tests.console.fleet import Console
from tests.enrollment.conftest import House, _make_keys
from tests.enrollment.test_lobby import impostor
from tests.inventory.conftest import InventoryTrial
from tools.embedded.testing import MakeDatabase


@dataclass(frozen=True)
class Thing:
    """A device in a group of its own; `marks` are the words that give it away."""

    device_id: UUID
    group_id: UUID
    marks: Sequence[str]
    channel_id: UUID | None = None
    command_id: UUID | None = None
    held_id: UUID | None = None
    """A command that waits for approval."""
    waiting: Sequence[UUID] = ()
    """Two enrollments in the lobby that claim to be the device."""


@dataclass(frozen=True)
class Scene:
    service: Trial
    inside: Thing
    outside: Thing


@asynccontextmanager
async def inventory(make: MakeDatabase, folder: Path) -> AsyncIterator[Scene]:
    clock = FixedClock(datetime.now(UTC))
    async with trial(INVENTORY, await make("inventory"), folder, clock=clock) as service:
        house, things = InventoryTrial(service, clock), []
        for where in ("inside", "outside"):
            serial, name = f"SERIAL-{where}", f"Phone {where}"
            device = await house.device(serial=serial, name=name)
            await house.reports(device, "device_information", {"DeviceName": name})
            group = await _group(service, where)
            await service.call(
                "POST", f"/api/v1/inventory/groups/{group}/members", {"device_ids": [device]}
            )
            things.append(Thing(device, group, (str(device), serial, name, str(group))))
        yield Scene(service, *things)


async def _group(service: Trial, name: str) -> UUID:
    made = await service.call("POST", "/api/v1/inventory/groups", {"name": f"Group {name}"})
    return UUID(made.json["group_id"])


@asynccontextmanager
async def enrollment(make: MakeDatabase, folder: Path) -> AsyncIterator[Scene]:
    for other in ("push_notifier", "command_queue"):
        ensure_service_keys(folder, other)
    clock, others = FixedClock(datetime.now(UTC).replace(microsecond=0)), RecordedCalls()
    environ = {"MUSTER_PUBLIC_URL": "https://mdm.example.org"}
    dsn = await make("enrollment")
    async with trial(
        ENROLLMENT, dsn, folder, clock=clock, internal=others, environ=environ
    ) as service:
        house, things = House(service, clock, others, _make_keys()), []
        await house.push_certificate()
        for _ in ("inside", "outside"):
            device = await house.enrolled()
            found = await house.find(device)
            waiting = [(await impostor(house, device))[1] for _ in range(2)]
            marks = (found["device_id"], str(device.serial), device.udid, *map(str, waiting))
            things.append(Thing(UUID(found["device_id"]), uuid7(), marks, waiting=waiting))
        yield await _grouped(service, things)


@asynccontextmanager
async def command_queue(make: MakeDatabase, folder: Path) -> AsyncIterator[Scene]:
    clock = FixedClock(datetime.now(UTC))
    environ = {
        "MUSTER_COMMAND_QUEUE_FAN_OUT_SHARE": "1",
        "MUSTER_COMMAND_QUEUE_DESTRUCTIVE_OF_ACTOR": '[{"minutes": 10, "least": 0}]',
    }
    dsn = await make("command_queue")
    async with trial(COMMAND_QUEUE, dsn, folder, clock=clock, environ=environ) as service:
        fleet = Fleet(service, clock)
        await fleet.publish()
        phones: list[Phone] = await fleet.enroll(2)
        things = [Thing(phone.device_id, uuid7(), ()) for phone in phones]
        await _grouped(service, things)
        yield Scene(
            service,
            *[
                await _commanded(fleet, phone, thing)
                for phone, thing in zip(phones, things, strict=True)
            ],
        )


async def _commanded(fleet: Fleet, phone: Phone, thing: Thing) -> Thing:
    """Somebody with the thing's group only has asked it for something, and to erase it."""
    asked = [
        await fleet.trial.call(
            "POST",
            "/api/v1/commands",
            {
                "kind": kind,
                "params": params,
                "device_ids": [phone.device_id],
                "idempotency_key": f"{kind} {phone.device_id}",
            },
            permissions=(),
            groups={thing.group_id: ("*",)},
        )
        for kind, params in (("inventory.refresh", {"section": "security"}), ("device.erase", {}))
    ]
    assert [one.json["state"] for one in asked] == ["active", "held"]
    await fleet.job("expand targets")
    command, held = (one.json["command_id"] for one in asked)
    marks = (str(phone.device_id), str(phone.channel_id), phone.udid, command, held)
    return Thing(
        phone.device_id, thing.group_id, marks, phone.channel_id, UUID(command), UUID(held)
    )


@asynccontextmanager
async def compliance(make: MakeDatabase, folder: Path) -> AsyncIterator[Scene]:
    clock = FixedClock(datetime.now(UTC))
    async with trial(COMPLIANCE, await make("compliance"), folder, clock=clock) as service:
        house, things = ComplianceTrial(service, clock), []
        policy = {"name": "Basics", "rules": [{"kind": "passcode_present"}]}
        await service.call("POST", "/api/v1/compliance/policies", policy)
        for where in ("inside", "outside"):
            serial, name = f"SERIAL-{where}", f"Phone {where}"
            device = await house.device(serial=serial, name=name)
            things.append(Thing(device, uuid7(), (str(device), serial, name)))
        yield await _grouped(service, things)


@asynccontextmanager
async def console(make: MakeDatabase, folder: Path) -> AsyncIterator[Scene]:
    clock = FixedClock(datetime.now(UTC))
    async with trial(CONSOLE, await make("console"), folder, clock=clock) as service:
        view, things, policy = Console(service, clock), [], uuid7()
        for where in ("inside", "outside"):
            serial, name = f"SERIAL-{where}", f"Phone {where}"
            device = await view.device(serial=serial, name=name)
            await view.seen(device)
            await view.verdict(device, policy, VerdictState.NONCOMPLIANT)
            # In the feed, and at the device.
            ended = DeviceUnenrolled(
                device_id=device, enrollment_id=uuid7(), generation=1, reason="check_out"
            )
            await service.hears(ended, service="enrollment")
            things.append(Thing(device, uuid7(), (str(device), serial, name)))
        yield await _grouped(service, things)


@asynccontextmanager
async def push_notifier(make: MakeDatabase, folder: Path) -> AsyncIterator[Scene]:
    clock = FixedClock(datetime.now(UTC))
    away = {"MUSTER_PUSH_NOTIFIER_APNS_HOST": "127.0.0.1", "MUSTER_PUSH_NOTIFIER_APNS_PORT": "9"}
    dsn = await make("push_notifier")
    async with trial(PUSH_NOTIFIER, dsn, folder, clock=clock, environ=away) as service:
        things = []
        for _ in ("inside", "outside"):
            state = _pushable(clock.now())
            await service.hears(state, service="enrollment")
            channel = state.enrollments[0].channels[0].channel_id
            marks = (str(state.device_id), str(channel))
            things.append(Thing(state.device_id, uuid7(), marks, channel))
        yield await _grouped(service, things)


def _pushable(now: datetime) -> DeviceState:
    channel = ChannelState(
        channel_id=uuid7(),
        kind="device",
        open=True,
        push_topic="com.apple.mgmt.x",
        push="sealed",
        push_updated_at=now,
    )
    enrollment = EnrollmentState(
        enrollment_id=uuid7(),
        generation=1,
        state="enrolled",
        pins=[],
        channels=[channel],
        authenticated_at=now,
    )
    return DeviceState(
        device_id=uuid7(),
        platform=Platform.IOS,
        ownership=Ownership.CORPORATE,
        enrollments=[enrollment],
        current_enrollment=enrollment.enrollment_id,
    )


async def _grouped(service: Trial, things: Sequence[Thing]) -> Scene:
    """Let a service hear whose groups these are."""
    told = [DeviceGroups(device_id=one.device_id, groups=[one.group_id]) for one in things]
    await service.hears(*told, service="inventory")
    return Scene(service, *things)


SCENES: Final[Mapping[str, Callable[[MakeDatabase, Path], AbstractAsyncContextManager[Scene]]]] = {
    "inventory": inventory,
    "enrollment": enrollment,
    "command_queue": command_queue,
    "compliance": compliance,
    "push_notifier": push_notifier,
    "console": console,
}
