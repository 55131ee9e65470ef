"""Which events enrollment listens to."""

from __future__ import annotations

from collections.abc import Sequence

from services.enrollment import leaving, sightings, topics
from shared.bus import device_groups
from shared.bus.handlers import Handlers
from shared.db.pool import Connection
from shared.events.commands import CommandFinished, DeviceSeen
from shared.events.groups import DeviceGroups
from shared.events.pushes import PushCertificateChanged
from shared.runtime.clock import Clock
from shared.runtime.jobs import Wake


def handlers(clock: Clock, departed: Wake) -> Handlers:
    async def finished(tx: Connection, events: Sequence[CommandFinished]) -> None:
        if await leaving.erased(tx, events, clock.now()):
            departed.set()

    return {
        PushCertificateChanged: topics.apply,
        CommandFinished: finished,
        DeviceSeen: sightings.apply,
        DeviceGroups: device_groups.replace,
    }
