"""Bounds of what a process remembers."""

from __future__ import annotations

from shared.runtime.latest import Latest


def test_the_oldest_of_too_many_is_forgotten() -> None:
    known: Latest[str, int] = Latest(3)
    for value, key in enumerate("abcd"):
        known[key] = value
    assert known == {"b": 1, "c": 2, "d": 3}


def test_what_is_set_anew_is_the_newest() -> None:
    known: Latest[str, int] = Latest(3)
    for key in "abcad":
        known[key] = len(known)
    assert list(known) == ["c", "a", "d"]


def test_setting_one_of_a_full_set_anew_forgets_nothing() -> None:
    known: Latest[str, int] = Latest(2)
    for key in "abb":
        known[key] = 0
    assert list(known) == ["a", "b"]
