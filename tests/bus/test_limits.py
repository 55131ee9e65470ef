from __future__ import annotations

import pytest

from shared.bus.limits import FailureLimit, TooManyFailuresError


def test_a_hundred_in_a_row_are_too_many() -> None:
    limit = FailureLimit()
    for _ in range(99):
        limit.failed()
    with pytest.raises(TooManyFailuresError, match="100 events in a row"):
        limit.failed()


def test_one_that_passes_breaks_the_row() -> None:
    limit = FailureLimit()
    for _ in range(9):
        for _ in range(99):
            limit.failed()
        limit.passed(1)


def test_five_percent_of_the_last_thousand_are_allowed_and_one_more_is_not() -> None:
    limit = FailureLimit()
    for _ in range(50):
        limit.passed(19)
        limit.failed()
    with pytest.raises(TooManyFailuresError, match="51 of the last 1000"):
        limit.failed()


def test_old_failures_are_forgotten() -> None:
    limit = FailureLimit()
    for _ in range(50):
        limit.failed()
    limit.passed(1000)
    for _ in range(50):
        limit.failed()


def test_the_share_is_not_judged_on_a_few() -> None:
    limit = FailureLimit()
    for _ in range(60):
        limit.passed(3)
        limit.failed()
