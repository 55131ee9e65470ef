"""What the soak says of an hour."""

from __future__ import annotations

from tools.bench.soak import Look, verdict


def look(megabytes: float, descriptors: int, backends: int) -> Look:
    return Look({"queue": megabytes}, {"queue": descriptors}, {"muster:queue": backends})


def test_a_steady_process_has_not_grown() -> None:
    said = verdict([look(40, 10, 1)] * 3 + [look(60, 20, 2)] * 17)
    assert said["growth"] == {"queue": 1.0}
    assert said["descriptors_more"] == {"queue": 0.0}
    assert said["backends_more"] == {"muster:queue": 0.0}
    assert said["most_megabytes"] == {"queue": 60}


def test_a_leak_is_told() -> None:
    said = verdict([look(50 + minute, 20 + minute, 1 + minute // 6) for minute in range(60)])
    assert said["growth"]["queue"] > 1.4
    assert said["descriptors_more"]["queue"] > 30
    assert said["backends_more"]["muster:queue"] > 4


def test_what_came_and_what_went_counts() -> None:
    before = Look({"queue": 50}, {"queue": 20}, {"gone": 1})
    after = Look({"queue": 50}, {"queue": 20}, {"new": 2})
    assert verdict([before, after])["backends_more"] == {"gone": -1.0, "new": 2.0}
