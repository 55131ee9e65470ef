"""What pages call things: a word and a colour for each value, never the colour alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.console.views.sentences import LOBBY_REASONS

__all__ = ["CHOICES", "LOBBY_REASONS", "LOBBY_STATES", "SHOWN", "Words"]

Words = Mapping[str, tuple[str, str]]
"""Value → (word, Tabler's colour)."""

STATUS: Final[Words] = {
    "enrolled": ("Enrolled", "green"),
    "pending": ("Pending", "blue"),
    "quarantined": ("Quarantined", "orange"),
    "ended": ("Ended", "secondary"),
}
COMPLIANCE: Final[Words] = {
    "compliant": ("Compliant", "green"),
    "noncompliant": ("Not compliant", "red"),
    "error": ("Could not judge", "orange"),
    "stale": ("Stale", "yellow"),
    "not_evaluated": ("Not evaluated", "azure"),
    "not_applicable": ("Does not apply", "secondary"),
}
PLATFORM: Final[Words] = {
    "ios": ("iOS", "secondary"),
    "ipados": ("iPadOS", "secondary"),
    "macos": ("macOS", "secondary"),
    "tvos": ("tvOS", "secondary"),
    "visionos": ("visionOS", "secondary"),
    "watchos": ("watchOS", "secondary"),
    "windows": ("Windows", "secondary"),
    "android": ("Android", "secondary"),
    "unknown": ("Unknown", "secondary"),
}
OWNERSHIP: Final[Words] = {
    "corporate": ("Corporate", "secondary"),
    "personal": ("Personal", "purple"),
    "unknown": ("Unknown", "secondary"),
}
SEEN: Final = {
    "day": "in the last 24 hours",
    "week": "in the last 7 days",
    "month": "in the last 30 days",
    "not_day": "not for 24 hours",
    "not_week": "not for 7 days",
    "not_month": "not for 30 days",
    "never": "never",
}
TARGET: Final[Words] = {
    "unexpanded": ("Asked for, being queued", "blue"),
    "parked": ("Waiting behind the first devices", "purple"),
    "waiting": ("Waiting until the device is known", "blue"),
    "held": ("Held for approval", "purple"),
    "queued": ("Queued, waiting for the device", "blue"),
    "sent": ("Sent, waiting for the answer", "azure"),
    "deferred": ("The device said: not now", "yellow"),
    "acknowledged": ("Acknowledged", "green"),
    "verified": ("Verified", "green"),
    "failed": ("Failed", "red"),
    "expired": ("Expired", "secondary"),
    "cancelled": ("Cancelled", "secondary"),
    "cancel_requested": ("Cancel asked too late, waiting for the answer", "orange"),
    "unconfirmed": ("Sent, never confirmed", "orange"),
}
COMMAND: Final[Words] = {
    "active": ("Under way", "azure"),
    "held": ("Held for approval", "purple"),
    "finished": ("Ended", "green"),
    "cancelled": ("Cancelled", "secondary"),
    "expired": ("Expired", "secondary"),
}
CERTIFICATE: Final[Words] = {
    "valid": ("Valid", "green"),
    "over": ("Its time is over", "secondary"),
    "revoked": ("Revoked", "red"),
}
KEPT: Final = {"lock_pin": "PIN that starts it again", "erase_pin": "PIN of the erase"}
CHAIN: Final[Words] = {
    "holds": ("The chain holds", "green"),
    "broken": ("The chain is broken", "red"),
    "unsigned": ("No new root is signed", "orange"),
    "unchecked": ("Not checked lately", "yellow"),
}
DELIVERY: Final[Words] = {
    "waiting": ("Waiting", "blue"),
    "delivered": ("Delivered", "green"),
    "dead": ("Given up", "red"),
}
CLASS: Final[Words] = {
    "harmless": ("Harmless", "secondary"),
    "disruptive": ("Disruptive", "yellow"),
    "destructive": ("Destructive", "red"),
}
LOBBY_STATES: Final[Words] = {
    "waiting": ("Waits for a decision", "orange"),
    "released": ("Let in", "green"),
    "refused": ("Refused", "red"),
    "expired": ("Not decided in time, refused", "secondary"),
    "left": ("Left by itself", "secondary"),
}
SHOWN: Final = {
    "certificate": CERTIFICATE,
    "command": COMMAND,
    "class": CLASS,
    "status": STATUS,
    "compliance": COMPLIANCE,
    "platform": PLATFORM,
    "ownership": OWNERSHIP,
    "target": TARGET,
}
CHOICES: Final = {
    "platform": {value: word for value, (word, _) in PLATFORM.items()},
    "status": {value: word for value, (word, _) in STATUS.items()},
    "compliance": {
        value: word for value, (word, _) in COMPLIANCE.items() if value != "not_applicable"
    },
    "ownership": {value: word for value, (word, _) in OWNERSHIP.items()},
    "seen": SEEN,
}
