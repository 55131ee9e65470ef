from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from tools.embedded.home import Home

_numbers = itertools.count(1)


@pytest.fixture
def new_home(muster_home: Home) -> Callable[[], Home]:
    """Make folders for servers of a test's own; they go away with the run's."""
    return lambda: Home.at(muster_home.root / f"own-{next(_numbers)}", cache=muster_home.cache)


@pytest.fixture
def own_home(new_home: Callable[[], Home]) -> Home:
    return new_home()
