"""What was promised and what was seen, with the times of both: the model that the storm checks.

All times are of one monotonic clock in this process. A promise counts from when its answer was in
our hands; a device's request counts from before it was sent. So nothing here depends on how fast
anything is, and a violation found while the storm blows is one.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

now = time.monotonic
NEVER = float("inf")


@dataclass
class Asked:
    """A command that somebody asks for until it is accepted. `devices`: ids of its targets."""

    key: str
    kind: str
    devices: frozenset[str]
    expires: int
    began: float
    acked: float = NEVER
    command_id: str = ""
    command_class: str = ""
    held: bool = False
    cancel_began: float = NEVER
    cancelled: float = NEVER


@dataclass
class Frozen:
    """A freeze: in force from its answer until somebody begins to lift it."""

    freeze_id: str
    command_class: str
    answered: float
    lifting: float = NEVER


@dataclass
class Handout:
    command_id: str
    began: float
    ended: float
    life: int


@dataclass
class Said:
    """An answer of a device. `delivered`: it got its 200; `began`: the first try."""

    command_id: str
    status: str
    began: float
    delivered: float = NEVER

    @property
    def is_final(self) -> bool:
        """Whether it ends the command once it is delivered."""
        return self.status != "NotNow"


@dataclass
class Leaving:
    """The end of a device's identity, or of its generation: Authenticate again, check-out, erase.

    `ended`: its answer was in our hands.
    """

    what: str
    began: float
    ended: float = NEVER


@dataclass
class Book:
    """What one device was given, said and went through; `life` counts its enrollments."""

    device_id: str = ""
    life: int = 0
    handouts: list[Handout] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    leavings: list[Leaving] = field(default_factory=list)
    requests: int = 0
    given: Counter[str] = field(default_factory=Counter)


class Ledger:
    """Written by the workload, read by the checks."""

    def __init__(self) -> None:
        self.asked: dict[str, Asked] = {}
        self.commands: dict[str, Asked] = {}
        self.freezes: list[Frozen] = []
        self.books: list[Book] = []
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()

    def book(self) -> Book:
        self.books.append(Book())
        return self.books[-1]

    def by_device(self) -> dict[str, Book]:
        return {book.device_id: book for book in self.books}

    def violated(self, what: str) -> None:
        self.violations.append(what)

    # What people ask

    def asks(self, key: str, kind: str, devices: Iterable[str], expires: int) -> Asked:
        asked = self.asked[key] = Asked(key, kind, frozenset(devices), expires, now())
        self.counts["commands asked"] += 1
        return asked

    def accepted(self, asked: Asked, answer: dict[str, object]) -> None:
        """An answer 202 or 200 to a request: the same key must always be the same command."""
        command_id = str(answer["command_id"])
        if asked.command_id and asked.command_id != command_id:
            self.violated(
                f"one key, two commands: {asked.key} is {asked.command_id} and {command_id}"
            )
        if answer["target_count"] != len(asked.devices):
            self.violated(f"{command_id} has {answer['target_count']} targets: {asked}")
        if not asked.command_id:
            asked.command_id, asked.acked = command_id, now()
            asked.command_class = str(answer["command_class"])
            asked.held = answer["state"] == "held"
            self.commands[command_id] = asked
            self.counts["targets asked"] += len(asked.devices)
        else:
            self.counts["requests repeated"] += 1

    # What devices are given and say

    def handed(self, book: Book, command_id: str, began: float) -> None:
        """A device was given a command by a request that it began at `began`."""
        handout = Handout(command_id, began, now(), book.life)
        self.counts["commands handed out"] += 1
        asked = self.commands.get(command_id)
        for why in self._forbidden(book, asked, handout):
            self.violated(f"{command_id} was handed to {book.device_id}: {why}")
        book.handouts.append(handout)
        book.given[command_id] += 1

    def _forbidden(self, book: Book, asked: Asked | None, handout: Handout) -> list[str]:
        """Why this device must not have been given this command by a request begun then."""
        began = handout.began
        found = [
            f"it said {said.status} and got its 200, {_ago(began, said.delivered)}"
            for said in book.said
            if said.command_id == handout.command_id and said.is_final and said.delivered < began
        ]
        for leaving in book.leavings:
            if leaving.ended >= began:
                continue
            if any(o.command_id == handout.command_id and o.ended <= leaving.began
                   for o in book.handouts):  # fmt: skip
                found.append(f"again, {began - leaving.ended:.3f} s after {leaving.what}")
            if asked and asked.acked < leaving.began:
                found.append(f"asked for before {leaving.what}, {_ago(began, leaving.ended)}")
        if asked is None:
            return found
        if asked.cancelled < began:
            found.append(f"cancelled {_ago(began, asked.cancelled)}")
        if asked.held:
            found.append("it is held")
        if book.device_id not in asked.devices:
            found.append("it is no target")
        found += [
            f"frozen by {freeze.freeze_id} {_ago(began, freeze.answered)}"
            for freeze in self.freezes
            if freeze.command_class == asked.command_class
            and freeze.answered < began
            and handout.ended < freeze.lifting
        ]
        return found


def _ago(began: float, at: float) -> str:
    return f"answered {began - at:.3f} s before the request"


def last_answers(book: Book) -> dict[str, list[Said]]:
    """What a device said of each command, in order."""
    found: dict[str, list[Said]] = defaultdict(list)
    for said in book.said:
        found[said.command_id].append(said)
    return dict(found)
