"""Which events command_queue listens to."""

from __future__ import annotations

from services.command_queue import approvers, asking, devices, scoping
from services.command_queue.requests import Requests
from shared.bus.handlers import Handlers
from shared.events.access import AccountState
from shared.events.commands import CommandRequested
from shared.events.device_state import AuthorityPublished, DeviceState
from shared.events.groups import DeviceGroups
from shared.runtime.clock import Clock


def handlers(requests: Requests, clock: Clock) -> Handlers:
    return {
        DeviceState: devices.handler(clock),
        AuthorityPublished: devices.publish,
        DeviceGroups: scoping.replace,
        AccountState: approvers.handler(clock),
        CommandRequested: asking.handler(requests, clock),
    }
