"""Settings of inventory: MUSTER_INVENTORY_…"""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from shared.runtime.settings import Settings


class InventorySettings(Settings):
    refresh_hours: float = Field(default=24, gt=0, le=24 * 30)
    """How often each device is asked for everything."""
    refresh_batch: int = Field(default=500, ge=1, le=1000)
    """Devices asked every ten seconds at most: what a long outage left due comes back at this
    pace, not at once.
    """
    announce_hours: float = Field(default=6, gt=0)
    """How often the others hear that unchanged facts were confirmed."""
    history_days: int = Field(default=400, ge=1)
    """How long what is no longer true can be read."""
    part_hours: int = Field(default=48, ge=1)
    """How long slices of an answer wait for the rest."""
    retell_every: float = Field(default=60.0, gt=0)
    retell_days: int = Field(default=7, ge=1, le=90)
    """In about so many days the groups of every device are told anew (decision 44)."""

    @property
    def refresh_every(self) -> timedelta:
        return timedelta(hours=self.refresh_hours)

    @property
    def announce_every(self) -> timedelta:
        return timedelta(hours=self.announce_hours)
