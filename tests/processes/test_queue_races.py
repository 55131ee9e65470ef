"""The races of tests/command_queue once more, against three processes instead of one."""

from __future__ import annotations

import pytest

from tests.command_queue.test_races import (
    test_fifty_workers_and_cancels,
    test_fifty_workers_and_fences,
    test_fifty_workers_and_freezes,
)

pytestmark = pytest.mark.timeout(300)  # starting processes is what a busy machine is slow at

# pytest takes `fleet` from the conftest beside this file: the same tests, other servers.
__all__ = [
    "test_fifty_workers_and_cancels",
    "test_fifty_workers_and_fences",
    "test_fifty_workers_and_freezes",
]
