"""Which events inventory listens to."""

from __future__ import annotations

from functools import partial

from services.inventory import answers, devices, refresh
from services.inventory.settings import InventorySettings
from shared.bus.handlers import Handlers
from shared.events.commands import CommandAnswerPart, CommandFinished, DeviceSeen
from shared.events.device_state import DeviceState
from shared.events.devices import DeviceEnrolled, DeviceImported, DeviceUnenrolled
from shared.runtime.clock import Clock


def handlers(settings: InventorySettings, clock: Clock) -> Handlers:
    return {
        DeviceState: partial(devices.replace, every=settings.refresh_every, clock=clock),
        DeviceEnrolled: refresh.after_enrollment,
        DeviceImported: partial(refresh.after_import, every=settings.refresh_every, clock=clock),
        DeviceUnenrolled: devices.stop,
        DeviceSeen: devices.seen,
        CommandAnswerPart: answers.keep_part,
        CommandFinished: partial(answers.apply, announce_every=settings.announce_every),
    }
