"""The channels as enrollment knows them, from `device-state`."""

from __future__ import annotations

from collections.abc import Sequence

from services.push_notifier.store import channels
from services.push_notifier.store.channels import PushChannel
from shared.db.pool import Connection
from shared.events.device_state import DeviceState


async def apply(tx: Connection, states: Sequence[DeviceState]) -> None:
    """Replace what is known of each device; older news is ignored."""
    newer = await channels.newer(tx, {s.device_id: s.meta.sequence for s in states})
    fresh = [state for state in states if state.device_id in newer]
    if fresh:
        found = [channel for state in fresh for channel in channels_of(state)]
        await channels.replace(tx, [state.device_id for state in fresh], found)


def channels_of(state: DeviceState) -> list[PushChannel]:
    """Only an enrolled enrollment's open channels are ever pushed."""
    return [
        PushChannel(
            channel.channel_id,
            state.device_id,
            channel.open and enrollment.state == "enrolled" and not state.deleted,
            channel.push_topic,
            channel.push,
            channel.push_updated_at,
        )
        for enrollment in state.enrollments
        for channel in enrollment.channels
    ]
