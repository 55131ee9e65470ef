"""Which events command_queue listens to."""

from __future__ import annotations

from datetime import timedelta

from services.command_queue import approvers, asking, devices, protection, wakes
from services.command_queue.requests import Requests
from shared.bus.handlers import Handlers
from shared.events.access import AccountState
from shared.events.commands import CommandRequested
from shared.events.device_state import AuthorityPublished, DeviceState
from shared.events.groups import DeviceGroups, GroupState
from shared.events.pushes import PushCertificateChanged
from shared.runtime.clock import Clock


def handlers(requests: Requests, clock: Clock, new_power_waits: timedelta) -> Handlers:
    return {
        DeviceState: devices.handler(clock),
        AuthorityPublished: devices.publish,
        DeviceGroups: protection.of_devices(clock, new_power_waits),
        GroupState: protection.of_groups(clock, new_power_waits),
        AccountState: approvers.handler(clock, new_power_waits),
        PushCertificateChanged: wakes.changed,
        CommandRequested: asking.handler(requests, clock),
    }
