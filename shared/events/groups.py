"""`muster.groups.v1`, compacted: static groups and who is in them. Written by inventory.

Members are named by people only: a device must not be able to report itself into a scope.
"""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from shared.events.base import Event, Short


class DeviceGroups(Event):
    """The groups that a device is in now; replaces what was known of it."""

    TYPE: ClassVar[str] = "muster.device.groups.v1"
    TOPIC: ClassVar[str] = "muster.groups.v1"
    device_id: UUID
    groups: list[UUID]


class GroupState(Event):
    """A group as it is now. Its members are told device by device, before it is told as deleted."""

    TYPE: ClassVar[str] = "muster.group.state.v1"
    TOPIC: ClassVar[str] = "muster.groups.v1"
    group_id: UUID
    name: Short
    description: Short | None = None
    protected: bool = False
    """Destructive commands to its members are always held."""
    deleted: bool = False

    @property
    def subject(self) -> str:
        return f"group:{self.group_id}"
