"""Which events push_notifier listens to."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from services.push_notifier import devices, waking
from services.push_notifier.settings import PushSettings
from shared.bus import device_groups
from shared.bus.handlers import Handlers
from shared.events.commands import CommandDeferred, CommandFinished, CommandQueued
from shared.events.device_state import DeviceState
from shared.events.groups import DeviceGroups
from shared.runtime.jobs import Wake


def handlers(settings: PushSettings, sender: Wake) -> Handlers:
    first = timedelta(seconds=settings.repush_after[0])
    not_now = timedelta(seconds=settings.not_now_wait)
    return {
        DeviceState: devices.apply,
        DeviceGroups: device_groups.replace,
        CommandQueued: partial(waking.work_waits, sender=sender),
        CommandDeferred: partial(waking.deferred, wait=not_now),
        CommandFinished: partial(waking.finished, wait=first),
    }
