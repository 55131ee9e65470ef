"""Timers of inventory."""

from __future__ import annotations

from collections.abc import Sequence

from services.inventory.membership import Dissolving
from services.inventory.refresh import Schedule
from services.inventory.retention import Retention
from services.inventory.settings import InventorySettings
from services.inventory.telling import Retelling
from shared.db.pool import Pool
from shared.runtime.clock import Clock
from shared.runtime.jobs import Job, Wake


def jobs(settings: InventorySettings, pool: Pool, clock: Clock, deleted: Wake) -> Sequence[Job]:
    return (
        Job("refresh", every=10, run=Schedule(pool, settings, clock).run),
        Job("retention", every=600, run=Retention(pool, settings, clock).run),
        Job("dissolve", every=15, run=Dissolving(pool, clock).run, wake=deleted),
        Job("retell", every=settings.retell_every, run=Retelling(pool, settings).tell_next),
    )
