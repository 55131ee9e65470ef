"""Settings of the console."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.runtime.settings import Settings


class ConsoleSettings(Settings):
    """Read from `MUSTER_CONSOLE_…`."""

    url: str = ""
    """Where people open the console, as their browsers write it; empty: `api_url`."""
    assets_dir: Path = Path(".muster/assets/vendor")
    """What `make assets` brings from npm."""

    activity_days: int = Field(default=90, ge=1, le=400)
    """How long it is kept what happened to devices; the audit stays."""

    audit_days: int = Field(default=400, ge=45, le=4000)
    """How long entries of the audit are kept: in whole weeks, the youngest may be a week older."""

    webhooks_apart: bool = False
    """`muster run webhooks` sends them, in a process without the token-signing key."""

    @property
    def address(self) -> str:
        return self.url or self.api_url
