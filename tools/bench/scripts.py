"""What is said in which order: scripts that the driver's connections step through.

A connection hands in its place, a list that only the script changes, and the last answer; it gets
the next request, or None at the end. Scripts travel to the generator's process: plain data only.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tools.bench.answers import Answer

_UUID_KEY = b"<key>CommandUUID</key>"
_OPEN, _CLOSE = b"<string>", b"</string>"
_OK = 200


class Script(Protocol):
    def begin(self, now: float) -> None:
        """Called once, when the clock starts."""

    def first(self, place: list[int]) -> bytes | None:
        """What the next device begins with; None: all have begun."""

    def then(self, place: list[int], answer: Answer) -> bytes | None:
        """What the same device says to this answer; None: it is done."""


@dataclass
class Round:
    """Requests one after the other, from the start again until enough were sent or time is up."""

    requests: Sequence[bytes]
    count: int | None = None
    """How many in all; None: until `seconds` are over; neither: each request once."""
    seconds: float | None = None
    _sent: int = 0
    _until: float = 0.0

    def begin(self, now: float) -> None:
        self._sent = 0
        self._until = now + self.seconds if self.seconds else 0.0
        if self.count is None and self.seconds is None:
            self.count = len(self.requests)

    def first(self, place: list[int]) -> bytes | None:
        if self._until:
            if time.perf_counter() >= self._until:
                return None
        elif self.count is not None and self._sent >= self.count:
            return None
        place[0] = self._sent % len(self.requests)
        self._sent += 1
        return self.requests[place[0]]

    def then(self, place: list[int], answer: Answer) -> bytes | None:
        del place, answer
        return None


@dataclass
class Lines:
    """Each device says its lines in order; who is refused says no more."""

    lines: Sequence[Sequence[bytes]]
    _next: int = 0
    _said: list[int] = field(default_factory=list)

    def begin(self, now: float) -> None:
        del now
        self._next, self._said = 0, [0] * len(self.lines)

    def first(self, place: list[int]) -> bytes | None:
        if self._next >= len(self.lines):
            return None
        place[0] = self._next
        self._next += 1
        self._said[place[0]] = 1
        return self.lines[place[0]][0]

    def then(self, place: list[int], answer: Answer) -> bytes | None:
        device = place[0]
        said = self._said[device]
        if answer.status != _OK or said >= len(self.lines[device]):
            return None
        self._said[device] += 1
        return self.lines[device][said]


@dataclass
class Talks:
    """Each device asks for work and answers what it is given until there is no more.

    `answers`: for each device, by CommandUUID. A command without a prepared answer ends the talk.
    """

    idle: Sequence[bytes]
    answers: Sequence[Mapping[bytes, bytes]]
    _next: int = 0

    def begin(self, now: float) -> None:
        del now
        self._next = 0

    def first(self, place: list[int]) -> bytes | None:
        if self._next >= len(self.idle):
            return None
        place[0] = self._next
        self._next += 1
        return self.idle[place[0]]

    def then(self, place: list[int], answer: Answer) -> bytes | None:
        if not answer.body or answer.status != _OK:
            return None
        return self.answers[place[0]].get(command_uuid(answer.body))


def command_uuid(body: bytes) -> bytes:
    """The CommandUUID of an XML property list, empty when there is none."""
    at = body.find(_UUID_KEY)
    begin = body.find(_OPEN, at)
    if at < 0 or begin < 0:
        return b""
    return body[begin + 8 : body.find(_CLOSE, begin)]
