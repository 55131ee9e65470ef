"""Devices as enrollment tells of them."""

from __future__ import annotations

from collections.abc import Sequence

from services.compliance.judging import Judge, Work
from services.compliance.store import devices as store
from services.compliance.store import tallies
from services.compliance.verdicts import Occasion
from shared.db.pool import Connection
from shared.events.device_state import DeviceState, EnrollmentState


class Devices:
    """Keeps the projection, and judges devices whose place under the policies changed."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    async def replace(self, tx: Connection, events: Sequence[DeviceState]) -> None:
        """Take over the newest state of each device."""
        alive = {event.device_id: event for event in events if not event.deleted}
        changed = await store.replace(tx, [_news(event) for event in alive.values()])
        if changed:
            causes = {device_id: alive[device_id] for device_id in changed}
            work = Work(dict.fromkeys(changed, Occasion()), causes=causes)
            await self._judge.judge(tx, work, "device")
        gone = {event.device_id: event.meta.sequence for event in events if event.deleted}
        if gone:
            await tallies.add(tx, await store.forget(tx, gone))


def _news(event: DeviceState) -> store.DeviceNews:
    enrollment = _managing(event)
    return store.DeviceNews(
        device_id=event.device_id,
        sequence=event.meta.sequence,
        platform=event.platform,
        ownership=event.ownership,
        name=event.name,
        serial=event.serial,
        tags=sorted(event.tags),
        managed=enrollment is not None,
        since=enrollment.authenticated_at if enrollment else None,
    )


def _managing(event: DeviceState) -> EnrollmentState | None:
    for enrollment in event.enrollments:
        if enrollment.enrollment_id == event.current_enrollment and enrollment.state == "enrolled":
            return enrollment
    return None
