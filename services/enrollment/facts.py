"""From what an enrollment claimed to the device's own facts."""

from __future__ import annotations

from services.enrollment.store.devices import Facts
from services.enrollment.store.enrollments import Begun, Told


def facts_of(enrollment: Begun | Told, *, first: bool = True) -> Facts:
    """What the device's row takes over.

    `first` False: a repeat, which leaves ownership and user as people may have changed them.
    """
    claimed = enrollment.claimed
    return Facts(
        device_id=enrollment.device_id,
        platform=claimed.get("platform", "unknown"),
        ownership=enrollment.ownership if first else None,
        name=claimed.get("name"),
        serial=claimed.get("serial"),
        udid=enrollment.udid,
        model=claimed.get("model"),
        product=claimed.get("product"),
        os_version=claimed.get("os_version"),
        build=claimed.get("build"),
        user_name=enrollment.user_name if first else None,
        enrollment_id=enrollment.enrollment_id,
    )
