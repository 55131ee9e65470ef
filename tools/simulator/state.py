"""What changes about a device: passcode, encryption, apps, profiles, locks."""

from __future__ import annotations

from dataclasses import dataclass, field

from tools.simulator.catalogue import APPS, App
from tools.simulator.traits import Traits
from tools.simulator.wire.profile import Profile

_PASSCODE_POLICY = "com.apple.mobiledevice.passwordpolicy"


@dataclass(slots=True)
class State:
    """A device's changing facts: apps, passcode and encryption are drawn, profiles installed."""

    apps: list[App]
    passcode_present: bool
    encrypted: bool
    firewall: bool
    available: float
    """Gigabytes free."""
    battery: float
    profiles: dict[str, Profile] = field(default_factory=dict)
    """By PayloadIdentifier: a profile with a known identifier replaces the old one."""
    locked: bool = False
    lock_message: str | None = None
    lost: bool = False
    lock_pin: str | None = None
    """What a Mac that is locked starts with."""
    restarts: int = 0
    powered: bool = True
    declarations_token: str | None = None
    declarations: dict[str, dict[str, str]] = field(default_factory=dict)
    """Kind (`activations`, …) to identifier to server token."""

    @property
    def passcode_required(self) -> bool:
        return any(
            payload.get("forcePIN")
            for profile in self.profiles.values()
            for payload in profile.of_type(_PASSCODE_POLICY)
        )

    @property
    def passcode_compliant(self) -> bool:
        return self.passcode_present or not self.passcode_required


def fresh(traits: Traits, life: int = 0) -> State:
    """The state of a device out of the box and set up by its user; `life` counts the erasures."""
    source = traits.random(f"state/{life}")
    catalogue = APPS[traits.kind]
    chosen = source.sample(catalogue, source.randint(len(catalogue) // 2, len(catalogue) - 3))
    return State(
        apps=sorted(chosen, key=lambda app: app.identifier),
        passcode_present=source.random() < 0.92,  # noqa: PLR2004
        encrypted=not traits.is_mac or source.random() < 0.85,  # noqa: PLR2004
        firewall=source.random() < 0.7,  # noqa: PLR2004
        available=round(traits.capacity * source.uniform(0.1, 0.8), 2),
        battery=round(source.uniform(0.2, 1.0), 2),
    )
