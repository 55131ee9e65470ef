"""How a device behaves beside answering truthfully: late, not now, never, or badly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tools.simulator import signing
from tools.simulator.device import SimulatedDevice
from tools.simulator.signing import HONEST, Signing
from tools.simulator.traits import Traits

# Who says NotNow to what (apple.md 1.3; vendor: "Sending MDM commands to a device").
NEVER_REFUSED_BY_IOS = frozenset(
    {
        "ClearPasscode",
        "DeviceInformation",
        "DeviceLock",
        "EraseDevice",
        "InstalledApplicationList",
        "ProfileList",
        "ProvisioningProfileList",
        "Restrictions",
    }
)
ACCEPTED_IN_POWER_NAP = frozenset(
    {
        "ActivationLockBypassCode",
        "ClearActivationLockBypassCode",
        "DeleteUser",
        "DeviceLock",
        "EraseDevice",
        "RestartDevice",
        "ShutDownDevice",
        "UnlockUserAccount",
        "UserList",
    }
)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The habits of one device.

    `refusals`: how often each command that it may refuse meets NotNow at first; `pause`: seconds
    before each answer; `silent`: it enrolls and is never heard of again; `repeats`: it sends every
    answer twice; `invents`: it answers commands that nobody sent.
    """

    name: str
    refusals: int = 0
    pause: float = 0.0
    silent: bool = False
    repeats: bool = False
    invents: bool = False
    method: str = "PUT"
    content_types: bool = True
    signing: Signing = HONEST

    def prepare(self, device: SimulatedDevice) -> None:
        device.link.method = self.method
        device.link.content_types = self.content_types
        device.link.signing = self.signing

    def refuses(self, traits: Traits, request_type: str, given: int) -> bool:
        """Whether a command met for the `given`th time (from 1) gets NotNow."""
        if given > self.refusals:
            return False
        if traits.is_mac:
            return request_type not in ACCEPTED_IN_POWER_NAP
        return request_type not in NEVER_REFUSED_BY_IOS


NORMAL = Behaviour("normal")
NOT_NOW = Behaviour("notnow", refusals=1)
SLOW = Behaviour("slow", pause=5.0)
SILENT = Behaviour("silent", silent=True)
MISBEHAVING = (
    Behaviour("answers twice", repeats=True),
    Behaviour("answers unknown commands", invents=True),
    Behaviour("posts", method="POST"),
    Behaviour("no content types", content_types=False),
    Behaviour("posts without content types", method="POST", content_types=False),
    Behaviour("signs with SHA-1", signing=signing.SHA1),
    Behaviour("signs with SHA-1 without NULL", signing=signing.SHA1_WITHOUT_NULL),
    Behaviour("embeds the content", signing=replace(signing.EMBEDDED, embed_at_most=4096)),
    Behaviour("signs in BER", signing=signing.INDEFINITE),
)
NAMES = ("normal", "notnow", "slow", "silent", "misbehaving")
EVERYDAY: Mapping[str, int] = {"normal": 86, "notnow": 8, "slow": 3, "misbehaving": 3}
"""No silent ones: a fleet that somebody watches shall all be inventoried and judged."""


def choose(traits: Traits, mix: Mapping[str, int]) -> Behaviour:
    """The behaviour of one device, the same in every run; `mix` weighs the `NAMES`."""
    source = traits.random("behaviour")
    name = source.choices(NAMES, [mix.get(each, 0) for each in NAMES])[0]
    if name == "misbehaving":
        return source.choice(MISBEHAVING)
    return {"normal": NORMAL, "notnow": NOT_NOW, "slow": SLOW, "silent": SILENT}[name]
