"""Timers of inventory."""

from __future__ import annotations

from collections.abc import Sequence

from services.inventory.refresh import Schedule
from services.inventory.retention import Retention
from services.inventory.settings import InventorySettings
from shared.db.pool import Pool
from shared.runtime.clock import Clock
from shared.runtime.jobs import Job


def jobs(settings: InventorySettings, pool: Pool, clock: Clock) -> Sequence[Job]:
    return (
        Job("refresh", every=10, run=Schedule(pool, settings, clock).run),
        Job("retention", every=600, run=Retention(pool, settings, clock).run),
    )
