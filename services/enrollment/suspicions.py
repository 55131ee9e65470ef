"""Why an enrollment waits in the lobby: the rules, what each weighs, what they sum up to.

Pure (docs/decisions/0056-who-waits-in-the-lobby.md). A rule has a code that never changes: it
stands in rows, events and addresses of pages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from services.enrollment.store.pins import Grant, Signs

ALWAYS: Final = 100
"""No threshold is above it: what weighs so much always waits."""

WEIGHTS: Final[dict[str, int]] = {
    "hardware_known": ALWAYS,
    "hardware_split": ALWAYS,
    "bound_serial_untold": ALWAYS,
    "bound_platform_untold": ALWAYS,
    "credential_reused": 60,
    "challenge_reused": 60,
    "serial_unlisted": 50,
    "serial_untold": 50,
    "refused_before": 50,
    "credential_spread": 50,
    "address_crowded": 50,
    "address_changed": 10,
}
"""By code; each is one rule."""


def score(reasons: Iterable[str]) -> int:
    """What they weigh together; a reason that no rule knows any more weighs as much as can be."""
    return min(ALWAYS, sum(WEIGHTS.get(reason, ALWAYS) for reason in set(reasons)))


def of_first(
    grant: Grant, serial: str | None, platform: str, address: str | None, signs: Signs
) -> list[str]:
    """What speaks against a first enrollment of hardware, besides whose names it claims.

    A credential made for exactly this serial is a person's word for the hardware: neither the list
    nor an earlier refusal counts then.
    """
    reasons = list(grant.suspicions)
    if grant.serial:
        if serial is None:
            reasons.append("bound_serial_untold")
    elif not grant.imported:
        if not grant.any_serial and not signs.listed:
            reasons.append("serial_unlisted" if serial else "serial_untold")
        if signs.refused_before:
            reasons.append("refused_before")
    if grant.platform and platform == "unknown":
        reasons.append("bound_platform_untold")
    if grant.leaked:
        reasons.append("credential_reused")
    if grant.address and address and grant.address != address:
        reasons.append("address_changed")
    return reasons
