"""How push_notifier is set up; prefix `MUSTER_PUSH_NOTIFIER_`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.runtime.settings import Settings


class PushSettings(Settings):
    """Times are seconds."""

    background_nice: int = Field(default=10, ge=0, le=19)
    """People wait until a device wakes (decision 60)."""
    apns_host: str = "api.push.apple.com"
    apns_port: int = 443
    apns_trust: Path | None = None
    """A CA file instead of the system's: for the stand-in."""
    apns_portal_url: str | None = None
    """The stand-in's portal: set only in the embedded default, it signs the first certificate."""
    apns_connections: int = 2
    send_at_once: int = 200
    send_timeout: float = 10.0
    push_lifetime: int = 7 * 86_400
    """How long the vendor keeps a push for a device that is away; always sent (apple.md §1.10)."""
    repush_after: tuple[int, ...] = (120, 900, 3_600, 21_600, 86_400)
    """Waits between pushes that nobody answered; the last one repeats."""
    give_up_after: int = 30 * 86_400
    not_now_wait: int = 300
    """From a NotNow that needs a push until that push (apple.md §1.3)."""
    attempt_days: int = 30
    """How long what was sent is kept."""
