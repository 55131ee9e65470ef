"""Versions compare as numbers, and comparisons never mix types."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.compliance import comparisons, versions
from services.compliance.rules import Operator

NUMBERS = st.lists(st.integers(0, 999_999_999), min_size=1, max_size=8)


def text(numbers: list[int]) -> str:
    return ".".join(map(str, numbers))


@pytest.mark.parametrize(
    ("observed", "wanted", "expected"),
    [
        ("17.10", "17.9", True),
        ("17.9", "17.10", False),
        ("17", "17.0.0", True),
        ("17.0", "17", True),
        ("16.7.8", "17", False),
        ("14.4.1 (a)", "14.4.1", True),
        ("14.4(23E214)", "14.4", True),
        ("0", "0.0", True),
        ("", "17", None),
        ("seventeen", "17", None),
        ("17beta", "17", None),
        ("17..1", "17", None),
        ("-17", "17", None),
        ("١٧", "17", None),
        ("1" * 400, "17", None),
        ("17", "new", None),
    ],
)
def test_at_least(observed: str, wanted: str, expected: bool | None) -> None:
    assert versions.at_least(observed, wanted) is expected


@given(NUMBERS, NUMBERS)
def test_versions_are_ordered_like_their_numbers(one: list[int], two: list[int]) -> None:
    padded = [numbers + [0] * (8 - len(numbers)) for numbers in (one, two)]
    assert versions.at_least(text(one), text(two)) is (padded[0] >= padded[1])


@given(NUMBERS, st.integers(0, 3))
def test_trailing_zeros_say_nothing(numbers: list[int], zeros: int) -> None:
    longer = (numbers + [0] * zeros)[:8]
    assert versions.parse(text(longer)) == versions.parse(text(numbers))


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_breaks_the_comparison(one: str, two: str) -> None:
    known = versions.parse(one) is not None and versions.parse(two) is not None
    assert (versions.at_least(one, two) is not None) is known


@pytest.mark.parametrize(
    ("how", "observed", "wanted", "expected"),
    [
        ("eq", True, True, True),
        ("eq", 1, True, None),
        ("eq", "1", 1, None),
        ("eq", 1.0, 1, True),
        ("ne", "full", "off", True),
        ("ne", "off", "off", False),
        ("lt", 0.5, 1, True),
        ("le", 1, 1, True),
        ("gt", 1, 1, False),
        ("ge", 2, 1, True),
        ("ge", True, 1, None),
        ("ge", "2", 1, None),
        ("in", "full", ["full", "medium"], True),
        ("in", "off", ["full", 7], False),
        ("in", None, ["full"], None),
        ("not_in", "off", ["full"], True),
        ("not_in", "full", ["full"], False),
        ("contains", "Ada's Mac", "Mac", True),
        ("contains", ["Mac"], "Mac", None),
        ("version_at_least", "17.10", "17.9", True),
        ("version_at_least", 17.1, "17", None),
    ],
)
def test_holds(how: Operator, observed: Any, wanted: Any, expected: bool | None) -> None:
    assert comparisons.holds(how, observed, wanted) is expected
