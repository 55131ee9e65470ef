"""What each answer of APNs means for the channel (apple.md §1.10; Apple: "Handling notification
responses from APNs"). Pure: answer in, decision out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from http import HTTPStatus

UNREACHABLE = 0
"""The status of a push that got no answer: refused, reset, GOAWAY, timed out."""

_PASSING = frozenset({UNREACHABLE, 429, 500, 503})
_DEAD_REASONS = frozenset({"BadDeviceToken", "DeviceTokenNotForTopic"})
_NOBODYS = frozenset({"BadDeviceToken", "Unregistered"})
_STALE_RETRY = timedelta(seconds=5)
_FIRST_RETRY = 2.0
_LONGEST_RETRY = 600.0
_BUG_RETRY = timedelta(hours=6)


class Fate(Enum):
    """What becomes of the channel."""

    WOKEN = "woken"
    RETRY = "retry"
    DEAD = "dead"
    """No more pushes until the next TokenUpdate; the enrollment stays."""
    OUR_FAULT = "our_fault"
    """Our bug or configuration: repeating the same push soon helps nobody; somebody must look."""
    CERTIFICATE = "certificate"
    """The topic's certificate is refused: the circuit opens for all its channels."""


@dataclass(frozen=True)
class Answer:
    status: int
    reason: str = ""
    timestamp: datetime | None = None
    """410 only: when APNs last knew the token was invalid."""


class Opinion(Enum):
    """What APNs makes of a certificate, by its answer to a push to nobody."""

    TAKEN = "taken"
    REFUSED = "refused"
    SILENT = "silent"
    """It did not say."""


def judge(answer: Answer) -> Opinion:
    """That the token is nobody's is said by who took the certificate and the topic first."""
    if answer.status == HTTPStatus.OK or answer.reason in _NOBODYS:
        return Opinion.TAKEN
    return Opinion.SILENT if answer.status in _PASSING else Opinion.REFUSED


@dataclass(frozen=True)
class Decision:
    fate: Fate
    retry_after: timedelta | None = None


def decide(answer: Answer, *, attempts: int, token_since: datetime | None) -> Decision:
    """`attempts` counts pushes since the device last answered, this one included."""
    if answer.status == HTTPStatus.OK:
        return Decision(Fate.WOKEN)
    if answer.status == HTTPStatus.GONE and not _newer_than(answer.timestamp, token_since):
        return Decision(Fate.RETRY, _STALE_RETRY * max(1, attempts))
    if answer.status == HTTPStatus.GONE or answer.reason in _DEAD_REASONS:
        return Decision(Fate.DEAD)
    if answer.status == HTTPStatus.FORBIDDEN:
        return Decision(Fate.CERTIFICATE)
    if answer.status in _PASSING:
        return Decision(Fate.RETRY, backoff(attempts))
    return Decision(Fate.OUR_FAULT, _BUG_RETRY)


def _newer_than(timestamp: datetime | None, token_since: datetime | None) -> bool:
    """A 410 older than the token speaks of the token before it (re-enrolled devices)."""
    return not (timestamp and token_since and timestamp <= token_since)


def backoff(attempts: int) -> timedelta:
    """Doubling from two seconds to ten minutes, with full jitter below the upper half."""
    longest = min(_LONGEST_RETRY, _FIRST_RETRY * 2 ** min(attempts - 1, 12))
    return timedelta(seconds=longest * random.uniform(0.5, 1.0))  # noqa: S311 - jitter


def apns_time(milliseconds: int | None) -> datetime | None:
    """APNs gives milliseconds; nonsense is no timestamp."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
    except (OverflowError, ValueError, OSError, TypeError):
        return None
