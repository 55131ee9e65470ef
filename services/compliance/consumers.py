"""Which events compliance listens to."""

from __future__ import annotations

from services.compliance.devices import Devices
from services.compliance.judging import Judge
from services.compliance.observations import Observations
from shared.bus import device_groups
from shared.bus.handlers import Handlers
from shared.events.commands import DeviceSeen
from shared.events.device_state import DeviceState
from shared.events.groups import DeviceGroups
from shared.events.inventory import ApplicationsChanged, FactsChanged, SectionReported
from shared.runtime.clock import Clock


def handlers(judge: Judge, clock: Clock) -> Handlers:
    devices, observations = Devices(judge), Observations(judge, clock)
    return {
        DeviceState: devices.replace,
        DeviceGroups: device_groups.replace,
        DeviceSeen: observations.seen,
        FactsChanged: observations.facts,
        ApplicationsChanged: observations.applications,
        SectionReported: observations.sections,
    }
