"""What configuration does with events."""

from __future__ import annotations

from services.configuration import devices
from shared.bus import Handlers
from shared.events.device_state import DeviceState

HANDLERS: Handlers = {DeviceState: devices.replace}
