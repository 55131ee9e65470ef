"""Between the batches of what follows."""

from __future__ import annotations

import pytest

from shared.bus.pacing import LONGEST, SHORTEST, pace


@pytest.mark.parametrize(
    ("took", "seconds"),
    [(0.0, SHORTEST), (0.004, SHORTEST), (0.01, 0.1), (0.02, 0.2), (0.1, LONGEST), (60, LONGEST)],
)
def test_a_batch_that_took_longer_is_followed_later_but_never_late(
    took: float, seconds: float
) -> None:
    assert pace(took) == pytest.approx(seconds)
