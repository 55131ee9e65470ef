"""Settings of the console."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from shared.runtime.settings import Settings


class ConsoleSettings(Settings):
    """Read from `MUSTER_CONSOLE_…`."""

    owner_token_minutes: int = Field(default=15, ge=1, le=15)

    @property
    def owner_token_lifetime(self) -> timedelta:
        return timedelta(minutes=self.owner_token_minutes)
