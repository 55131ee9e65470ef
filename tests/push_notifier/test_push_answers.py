"""Every row of apple.md §1.10, as a decision."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.push_notifier.answers import UNREACHABLE, Answer, Fate, apns_time, backoff, decide

TOKEN_SINCE = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        (Answer(200), Fate.WOKEN),
        (Answer(400, "BadDeviceToken"), Fate.DEAD),
        (Answer(400, "DeviceTokenNotForTopic"), Fate.DEAD),
        (Answer(400, "BadTopic"), Fate.OUR_FAULT),
        (Answer(400, "PayloadEmpty"), Fate.OUR_FAULT),
        (Answer(400, "InvalidPushType"), Fate.OUR_FAULT),
        (Answer(400, "MissingTopic"), Fate.OUR_FAULT),
        (Answer(403, "BadCertificate"), Fate.CERTIFICATE),
        (Answer(403, "BadCertificateEnvironment"), Fate.CERTIFICATE),
        (Answer(410, "Unregistered", TOKEN_SINCE + timedelta(seconds=1)), Fate.DEAD),
        (Answer(410, "ExpiredToken", TOKEN_SINCE + timedelta(days=1)), Fate.DEAD),
        (Answer(410, "Unregistered", TOKEN_SINCE - timedelta(seconds=1)), Fate.RETRY),
        (Answer(410, "Unregistered"), Fate.DEAD),
        (Answer(413, "PayloadTooLarge"), Fate.OUR_FAULT),
        (Answer(429, "TooManyRequests"), Fate.RETRY),
        (Answer(500, "InternalServerError"), Fate.RETRY),
        (Answer(503, "Shutdown"), Fate.RETRY),
        (Answer(UNREACHABLE, "no connection"), Fate.RETRY),
    ],
)
def test_each_answer_has_its_fate(answer: Answer, fate: Fate) -> None:
    decision = decide(answer, attempts=1, token_since=TOKEN_SINCE)
    assert decision.fate is fate
    assert (decision.retry_after is not None) == (fate in (Fate.RETRY, Fate.OUR_FAULT))


def test_back_off_grows_and_is_bounded() -> None:
    waits = [backoff(attempt).total_seconds() for attempt in (1, 5, 40)]
    assert 1 <= waits[0] <= 2
    assert 16 <= waits[1] <= 32
    assert 300 <= waits[2] <= 600


@pytest.mark.parametrize("nonsense", [None, 0, -(10**30), 10**30])
def test_a_nonsensical_timestamp_is_none(nonsense: int | None) -> None:
    assert apns_time(nonsense) is None
