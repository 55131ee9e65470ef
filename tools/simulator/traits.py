"""Who a simulated device is: everything that never changes, drawn from seed and index alone."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from tools.simulator.catalogue import (
    FIRST_NAMES,
    KINDS,
    LAST_NAMES,
    MODELS,
    RELEASES,
    Kind,
    Model,
    Release,
)

DEFAULT_MIX: Mapping[Kind, int] = {"iphone": 5, "ipad": 2, "mac": 3}
_SERIAL_LETTERS = "CDFGHJKLMNPQRTVWXY0123456789"


@dataclass(frozen=True, slots=True)
class User:
    """A person's account on a device: one user channel."""

    user_id: str
    short_name: str
    long_name: str


@dataclass(frozen=True, slots=True)
class Traits:
    seed: str
    index: int
    kind: Kind
    model: Model
    release: Release
    udid: str
    serial: str
    device_name: str
    user: User
    capacity: int
    """Gigabytes."""
    supervised: bool
    wifi_mac: str
    bluetooth_mac: str
    imei: str | None
    iccid: str | None
    phone_number: str | None

    @property
    def is_mac(self) -> bool:
        return self.kind == "mac"

    def random(self, purpose: str) -> random.Random:
        """A source of chance that is the same in every run, and another for each purpose."""
        return chance(self.seed, self.index, purpose)


def chance(seed: str, index: int, purpose: str) -> random.Random:
    return random.Random(f"{seed}/{index}/{purpose}")  # noqa: S311 - repeatable on purpose


def draw(
    seed: str, index: int, *, kind: Kind | None = None, mix: Mapping[Kind, int] = DEFAULT_MIX
) -> Traits:
    """The traits of device `index` of fleet `seed`; equal arguments give equal traits."""
    source = chance(seed, index, "traits")
    drawn = source.choices(KINDS, [mix.get(each, 0) for each in KINDS])[0]
    kind = kind or drawn
    model = source.choice(MODELS[kind])
    releases = RELEASES[kind]
    user = _user(source)
    return Traits(
        seed=seed,
        index=index,
        kind=kind,
        model=model,
        release=source.choices(releases, [release.weight for release in releases])[0],
        udid=_udid(source, kind),
        serial=_text(source, _SERIAL_LETTERS, 10),
        device_name=f"{user.long_name.split()[0]}'s {model.model_name}",
        user=user,
        capacity=source.choice(model.capacities),
        supervised=kind == "mac" or source.random() < 0.8,  # noqa: PLR2004
        wifi_mac=_mac(source),
        bluetooth_mac=_mac(source),
        imei=_imei(source) if model.cellular else None,
        iccid=_text(source, "0123456789", 20) if model.cellular else None,
        phone_number=f"+1202555{source.randrange(10_000):04}" if model.cellular else None,
    )


def _text(source: random.Random, letters: str, length: int) -> str:
    return "".join(source.choices(letters, k=length))


def _udid(source: random.Random, kind: Kind) -> str:
    if kind == "mac":
        return str(uuid.UUID(int=source.getrandbits(128), version=4)).upper()
    return f"{source.getrandbits(32):08X}-{source.getrandbits(64):016X}"


def _mac(source: random.Random) -> str:
    # The second bit of the first byte says "locally administered": no vendor owns these.
    octets = [source.getrandbits(8) & 0xFC | 0x02, *(source.getrandbits(8) for _ in range(5))]
    return ":".join(f"{octet:02x}" for octet in octets)


def _imei(source: random.Random) -> str:
    digits = "35" + _text(source, "0123456789", 12)
    total = 0
    for place, digit in enumerate(digits):
        value = int(digit) * (1 + place % 2)
        total += value // 10 + value % 10
    check = digits + str(-total % 10)
    return " ".join((check[:2], check[2:8], check[8:14], check[14:]))


def _user(source: random.Random) -> User:
    first, last = source.choice(FIRST_NAMES), source.choice(LAST_NAMES)
    identifier = str(uuid.UUID(int=source.getrandbits(128), version=4)).upper()
    return User(identifier, f"{first[0]}{last}".lower(), f"{first} {last}")
