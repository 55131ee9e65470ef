"""Rows of devices, as enrollment, inventory and command_queue tell of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.console.store import view_devices as store
from services.console.store import view_tallies as tallies
from services.console.views import live
from services.console.views.counting import counted
from shared.db.pool import Connection
from shared.events.commands import DeviceSeen
from shared.events.device_state import DeviceState, EnrollmentState
from shared.events.groups import DeviceGroups, GroupState
from shared.events.inventory import FactsChanged
from shared.events.pushes import PushCertificateChanged

_FACTS: Final[Mapping[str, str]] = {
    "device.name": "name",
    "device.model_name": "model",
    "os.version": "os",
    "device.supervised": "supervised",
}
"""Fact → what of `Reported` it is."""


async def replace(tx: Connection, events: Sequence[DeviceState]) -> None:
    """Take over the newest state of each device; forget those that were deleted."""
    ids = [event.device_id for event in events]
    alive = [event for event in events if not event.deleted]
    gone = {event.device_id: event.meta.sequence for event in events if event.deleted}
    async with counted(tx, ids):
        if alive:
            if await store.replace(tx, [_news(event) for event in alive]):
                live.changed(tx, [live.NEWCOMERS])
            await store.index(tx, [event.device_id for event in alive])
        if gone:
            lost = await store.forget(tx, await store.newer(tx, gone))
            moved = Counter(("policy", f"{policy_id} {state}") for policy_id, state in lost)
            await tallies.add(tx, {key: -count for key, count in moved.items()})
    live.changed(tx, ids)


def _news(event: DeviceState) -> store.DeviceNews:
    current = _current(event)
    return store.DeviceNews(
        device_id=event.device_id,
        sequence=event.meta.sequence,
        platform=event.platform,
        ownership=event.ownership,
        name=event.name,
        serial=event.serial,
        udid=current.udid if current else None,
        user_name=event.user,
        model=event.model,
        product=event.product,
        enrolled_os=event.os_version,
        enrolled_supervised=current.supervised if current else None,
        tags=sorted(set(event.tags)),
        status=current.state if current else "pending",
        enrollment_id=current.enrollment_id if current else None,
        enrolled_at=current.enrolled_at if current else None,
        ended_at=current.ended_at if current else None,
        end_reason=current.end_reason if current else None,
    )


def _current(event: DeviceState) -> EnrollmentState | None:
    """The enrollment that is served, else the one that began last."""
    for enrollment in event.enrollments:
        if enrollment.enrollment_id == event.current_enrollment:
            return enrollment
    return max(event.enrollments, key=lambda one: one.authenticated_at, default=None)


async def seen(tx: Connection, events: Sequence[DeviceSeen]) -> None:
    await store.seen(tx, {event.device_id: event.seen_at for event in events})
    live.changed(tx, [event.device_id for event in events])


async def report(tx: Connection, events: Sequence[FactsChanged]) -> None:
    """Keep what lists show of the facts that changed; most changes are none of them."""
    news = [_reported(event, found) for event in events if (found := _shown(event))]
    if not news:
        return
    ids = [one.device_id for one in news]
    async with counted(tx, ids):
        await store.report(tx, news)
    renamed = [one.device_id for one in news if one.name or one.model]
    if renamed:
        await store.index(tx, renamed)
    live.changed(tx, ids)


def _shown(event: FactsChanged) -> dict[str, Any]:
    return {_FACTS[c.name]: c.value for c in event.changes if c.name in _FACTS}


def _reported(event: FactsChanged, found: Mapping[str, Any]) -> store.Reported:
    return store.Reported(
        device_id=event.device_id,
        name=found.get("name"),
        model=found.get("model"),
        os=found.get("os"),
        supervised=found.get("supervised"),
    )


async def put_into_groups(tx: Connection, events: Sequence[DeviceGroups]) -> None:
    """Take over the groups of each device; they decide who sees it."""
    await store.put_into_groups(
        tx,
        [
            store.Membership(event.device_id, event.meta.sequence, sorted(set(event.groups)))
            for event in events
        ],
    )
    live.changed(tx, [event.device_id for event in events])


async def replace_groups(tx: Connection, events: Sequence[GroupState]) -> None:
    await store.replace_groups(
        tx,
        [
            store.GroupNews(
                group_id=event.group_id,
                sequence=event.meta.sequence,
                name=event.name,
                description=event.description,
                protected=event.protected,
                deleted=event.deleted,
            )
            for event in events
        ],
    )


async def replace_push_certificates(
    tx: Connection, events: Sequence[PushCertificateChanged]
) -> None:
    await store.replace_push_certificates(
        tx,
        [
            store.PushCertificate(
                topic=event.topic,
                sequence=event.meta.sequence,
                not_after=event.not_after,
                current=event.current,
            )
            for event in events
        ],
    )
