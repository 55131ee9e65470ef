"""What configuration does with events."""

from __future__ import annotations

from services.configuration import devices
from shared.bus import Handlers, device_groups
from shared.events.device_state import DeviceState
from shared.events.groups import DeviceGroups

HANDLERS: Handlers = {DeviceState: devices.replace, DeviceGroups: device_groups.replace}
