"""The queue against a model of it: whatever happens in whatever order, the device is handed exactly
what the model says, and every target ends exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from services.command_queue.app import SERVICE
from shared.runtime.clock import FixedClock
from shared.runtime.testing import trial
from tests.command_queue.fleet import NO_BUDGETS, Fleet
from tests.command_queue.model import KINDS, Model
from tools.embedded.testing import MakeDatabase

Run = Callable[[Coroutine[Any, Any, Any]], Any]

ASKS = st.lists(
    st.tuples(st.sampled_from(sorted(KINDS)), st.integers(-2, 2), st.sampled_from([60, 3600])),
    min_size=1,
    max_size=3,
)
NUMBERS = st.integers(0, 30)
_BETWEEN_FENCES = 8


class Queue(RuleBasedStateMachine):
    """One device and its queue, which is seldom empty: a fence, which ends everything, comes only
    now and then, and what does nothing to an empty queue is not tried on one.
    """

    def __init__(self, fleet: Fleet, run: Run) -> None:
        super().__init__()
        self.fleet, self._run = fleet, run
        self.since_fence = 0
        self.whole = True
        """False once a step failed: then there is nothing to compare."""

    def run(self, step: Coroutine[Any, Any, Any]) -> None:
        self.whole = False
        self._run(step)
        self.whole = True
        self.since_fence += 1

    @initialize(asks=ASKS)
    def enroll(self, asks: list[tuple[str, int, int]]) -> None:
        self.model = Model(self.fleet, self._run(self.fleet.enroll()))
        self.ask(asks)

    @rule(asks=ASKS)
    def ask(self, asks: list[tuple[str, int, int]]) -> None:
        for kind, priority, seconds in asks:
            self.run(self.model.ask(kind, priority, seconds))

    @rule()
    def idle(self) -> None:
        self.run(self.model.idle())

    @precondition(lambda self: self.model.open)
    @rule()
    def lose_the_answer(self) -> None:
        self.run(self.model.idle_and_lose_the_answer())

    @precondition(lambda self: self.model.next_one(deferred_too=True))
    @rule()
    def crash(self) -> None:
        self.run(self.model.idle_and_crash())

    @precondition(lambda self: self.model.last)
    @rule(status=st.sampled_from(["Acknowledged", "NotNow"]))
    def reply(self, status: str) -> None:
        self.run(self.model.reply(status))

    @precondition(lambda self: self.model.last)
    @rule(status=st.sampled_from(["Acknowledged", "Error", "NotNow", "Strange"]))
    def reply_anything(self, status: str) -> None:
        self.run(self.model.reply(status))

    @rule(status=st.sampled_from(["Acknowledged", "NotNow"]), number=NUMBERS)
    def repeat(self, status: str, number: int) -> None:
        self.run(self.model.repeat(status, number))

    @precondition(lambda self: self.model.last)
    @rule()
    def garble(self) -> None:
        self.run(self.model.garble())

    @precondition(lambda self: len(self.model.open) > 1)
    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        self.run(self.model.cancel(number))

    @precondition(lambda self: not self.model.frozen)
    @rule(command_class=st.sampled_from(sorted(KINDS.values())))
    def freeze(self, command_class: str) -> None:
        self.run(self.model.freeze(command_class))

    @precondition(lambda self: self.model.frozen)
    @rule()
    def lift(self) -> None:
        self.run(self.model.lift())

    @rule()
    def sweep(self) -> None:
        self.run(self.model.sweep())

    @precondition(lambda self: self.model.open)
    @rule(seconds=st.sampled_from([20, 61]))
    def wait(self, seconds: int) -> None:
        self.model.wait(seconds)

    @precondition(lambda self: self.since_fence >= _BETWEEN_FENCES)
    @rule()
    def fence(self) -> None:
        self.run(self.model.fence())
        self.since_fence = 0

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        try:
            if self.whole:
                self.run(self.model.compare())
        finally:
            self._run(self.model.lift())


@pytest.fixture
async def lenient(
    make_database: MakeDatabase, tmp_path: Path, clock: FixedClock
) -> AsyncIterator[Fleet]:
    """A fleet whose limit on destruction is out of the way."""
    environ = {
        "MUSTER_COMMAND_QUEUE_SEEN_FLUSH_SECONDS": "3600",
        **NO_BUDGETS,
    }
    dsn = await make_database("command_queue")
    async with trial(SERVICE, dsn, tmp_path, clock=clock, environ=environ) as running:
        found = Fleet(running, clock)
        await found.publish()
        yield found


@pytest.fixture
async def run() -> Run:
    """Runs one step to its end: the machine's rules are no coroutines."""
    return asyncio.get_running_loop().run_until_complete


@pytest.mark.timeout(480)  # half a minute; a failure takes minutes to be made small
def test_the_queue_does_what_the_model_does(lenient: Fleet, run: Run) -> None:
    class Here(Queue):
        def __init__(self) -> None:
            super().__init__(lenient, run)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
