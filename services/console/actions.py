"""What a page offers to do to a device, in the words of people. What each command can do to whom
is command_queue's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from services.console.people import Person

REQUEST: Final = "command.request"
PROFILE_LETTERS: Final = 1_400_000
"""A profile of 1 MiB as base64."""


@dataclass(frozen=True)
class Input:
    """A field of an action's form; its name is the parameter's."""

    name: str
    label: str
    most: int
    hint: str = ""
    least: int = 0
    inputmode: str | None = None
    area: bool = False
    """It has many lines, and a file may be chosen that holds it."""


@dataclass(frozen=True)
class Action:
    """A dangerous thing to do: it has a page of its own that asks for serial and reason."""

    name: str
    kind: str
    title: str
    """As a button says it."""
    effect: str
    """What becomes of the device: the sentence that a person must have read."""
    effect_on_many: str
    icon: str
    inputs: tuple[Input, ...] = ()
    one_of: tuple[str, ...] = ()
    """Inputs of which one at least must be filled in."""
    destructive: bool = False
    """Nothing brings back what it takes. Else it only disturbs somebody's work."""
    harmless: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that nobody chooses."""
    one_by_one: Mapping[str, str] = field(default_factory=dict)
    """By platform, why it is not offered for many devices at once."""
    judged: bool = False
    """What is sent decides how dangerous it is: command_queue is asked before the person is."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """By platform, the effect where it is another one, which nothing brings back."""

    def lacks(self, params: Mapping[str, str]) -> str | None:
        """What must be filled in besides; None: nothing."""
        if not self.one_of or any(params.get(name, "").strip() for name in self.one_of):
            return None
        labels = [one.label for one in self.inputs if one.name in self.one_of]
        return f"Fill in {'one of' if len(labels) > 1 else 'this'}: {', '.join(labels)}."

    @property
    def permission(self) -> str:
        return f"command.{self.kind}"

    def on(self, platform: str) -> Action:
        """What it is on a device of this platform."""
        effect = self.elsewhere.get(platform)
        return self if effect is None else replace(self, effect=effect, destructive=True)

    @property
    def danger(self) -> str:
        """As command_queue classes it."""
        if self.harmless:
            return "harmless"
        return "destructive" if self.destructive else "disruptive"

    @property
    def needs(self) -> tuple[str, str]:
        return REQUEST, self.permission


ACTIONS: Final = (
    Action(
        "lock",
        "device.lock",
        "Lock",
        "The screen locks at once. Whoever knows the passcode can unlock it; without a passcode"
        " anybody can.",
        "Their screens lock at once. Whoever knows the passcode of one can unlock it; without a"
        " passcode anybody can.",
        "lock",
        inputs=(
            Input("message", "Message on the locked screen", 1000),
            Input("phone_number", "Phone number to call", 40, least=3, inputmode="tel"),
        ),
        one_by_one={"macos": "Macs are locked one by one, each by a PIN of its own"},
        elsewhere={
            "macos": "The Mac restarts at once, and starts only by a PIN of six digits. Muster"
            " makes the PIN and keeps it: it is under Secrets on the page of the Mac. Without the"
            " PIN nobody can use the Mac."
        },
    ),
    Action(
        "lost",
        "lost_mode.enable",
        "Turn on lost mode",
        "The device locks at once and shows what you write here. Nobody can use it, not even by its"
        " passcode, until lost mode is turned off.",
        "They lock at once and show what you write here. Nobody can use them, not even by their"
        " passcodes, until lost mode is turned off.",
        "map-pin",
        inputs=(
            Input("message", "Message on the locked screen", 1000, "It, or a phone number."),
            Input("phone_number", "Phone number to call", 40, least=3, inputmode="tel"),
            Input("footnote", "Line at the bottom of the screen", 1000),
        ),
        one_of=("message", "phone_number"),
    ),
    Action(
        "found",
        "lost_mode.disable",
        "Turn off lost mode",
        "The device leaves lost mode: whoever knows its passcode can use it again.",
        "They leave lost mode: whoever knows the passcode of one can use it again.",
        "lock-open",
    ),
    Action(
        "sound",
        "lost_mode.play_sound",
        "Play a sound",
        "A device in lost mode plays a sound until somebody stops it there, or lost mode is turned"
        " off. Without lost mode it does nothing.",
        "Those in lost mode play a sound until somebody stops it there, or lost mode is turned off."
        " The others do nothing.",
        "bell",
    ),
    Action(
        "restart",
        "device.restart",
        "Restart",
        "The device restarts at once. What is not saved may be lost.",
        "They restart at once. What is not saved may be lost.",
        "refresh",
    ),
    Action(
        "shutdown",
        "device.shutdown",
        "Shut down",
        "The device shuts down at once, and is not reached again until somebody turns it on.",
        "They shut down at once, and none is reached again until somebody turns it on.",
        "power",
    ),
    Action(
        "clear_passcode",
        "device.clear_passcode",
        "Clear passcode",
        "The passcode is gone at once: whoever holds the device opens it until a new one is set.",
        "Their passcodes are gone at once: whoever holds one opens it until a new one is set.",
        "lock-open",
    ),
    Action(
        "install",
        "configuration.install",
        "Install profile",
        "What the profile holds takes effect on the device as soon as it is there. What is in it"
        " decides how dangerous this is: you are told before it is sent.",
        "What the profile holds takes effect on them as soon as it is there. What is in it decides"
        " how dangerous this is: you are told before it is sent.",
        "plus",
        inputs=(
            Input(
                "profile",
                "Profile",
                PROFILE_LETTERS,
                "Its XML, or base64 of a signed one. At most 1 MiB.",
                area=True,
            ),
        ),
        one_of=("profile",),
        judged=True,
    ),
    Action(
        "remove",
        "configuration.remove",
        "Remove profile",
        "The profile goes, and with it what it brought: accounts, networks, certificates, limits."
        " One that Muster did not install there counts as destructive.",
        "The profile goes from them, and with it what it brought: accounts, networks, certificates,"
        " limits. Where Muster did not install it, this counts as destructive.",
        "x",
        inputs=(Input("identifier", "Identifier of the profile", 255, "As under Configuration."),),
        one_of=("identifier",),
    ),
    Action(
        "erase",
        "device.erase",
        "Erase",
        "Everything on the device is erased for good, and it leaves management. Nothing brings it"
        " back.",
        "Everything on them is erased for good, and they leave management. Nothing brings it back.",
        "trash",
        destructive=True,
    ),
)
REFRESH: Final = Action(
    "refresh",
    "inventory.refresh",
    "Refresh inventory",
    "The device is asked what it is. Nothing on it changes.",
    "They are asked what they are. Nothing on them changes.",
    "refresh",
    harmless=True,
    fixed={"section": "device_information"},
)
BULK: Final = (REFRESH, *ACTIONS)
"""What can be done to many devices at once."""
BULK_BY_NAME: Final[Mapping[str, Action]] = {one.name: one for one in BULK}
BY_NAME: Final[Mapping[str, Action]] = {one.name: one for one in ACTIONS}


def lacking(person: Person, device: Mapping[str, Any], *needed: str) -> str | None:
    """The permission that is missing to do something to this device; None: none is.

    All of them must be held everywhere, or on one and the same group of the device.
    """
    missing = [one for one in needed if not person.may(one)]
    own = {one["group_id"] for one in device["groups"]}
    groups = [held for group, held in person.caller.groups.items() if group in own]
    if any(held.issuperset(missing) for held in groups) or not missing:
        return None
    return next((one for one in missing if not any(one in held for held in groups)), missing[0])
