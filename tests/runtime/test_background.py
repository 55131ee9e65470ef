"""Jobs: one runner at a time, errors survived, stopped in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import asyncpg
import pytest

from shared.bus.context import correlation_id
from shared.runtime.background import JobLocks, JobRunner, keep_running
from shared.runtime.jobs import Job, Wake
from shared.runtime.logs import SERVICE
from tools.embedded.testing import MakeDatabase

Start = Callable[[Sequence[Job]], JobRunner]


@pytest.fixture
async def dsn(make_database: MakeDatabase) -> str:
    return await make_database("configuration")


@pytest.fixture
async def start(dsn: str) -> AsyncIterator[Start]:
    runners: list[JobRunner] = []

    def begin(jobs: Sequence[Job]) -> JobRunner:
        runner = JobRunner("configuration", jobs, JobLocks(dsn, "configuration"))
        runners.append(runner)
        runner.start()
        return runner

    yield begin
    for runner in runners:
        await runner.stop()


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what is waited for is a count
            await asyncio.sleep(0.01)


def _counting(seen: list[str], *, more: int = 0) -> Callable[[], Awaitable[bool | None]]:
    async def run() -> bool:
        seen.append(SERVICE.get())
        return len(seen) <= more

    return run


async def test_more_work_is_done_at_once(start: Start) -> None:
    seen: list[str] = []
    start([Job("busy", every=3600, run=_counting(seen, more=4))])
    await _until(lambda: len(seen) == 5)
    assert set(seen) == {"configuration"}


async def test_a_wake_ends_the_pause(start: Start) -> None:
    seen: list[str] = []
    wake = Wake()
    start([Job("sleepy", every=3600, run=_counting(seen), wake=wake)])
    await _until(lambda: len(seen) == 1)
    wake.set()
    await _until(lambda: len(seen) == 2)


@pytest.mark.parametrize(
    ("error", "stack"), [(RuntimeError("once"), True), (ConnectionRefusedError(111, "no"), False)]
)
async def test_a_failure_is_survived_and_told_with_its_stack_if_that_says_something(
    start: Start, caplog: pytest.LogCaptureFixture, error: Exception, stack: bool
) -> None:
    tries: list[int] = []

    async def run() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise error

    start([Job("clumsy", every=0.01, run=run)])
    await _until(lambda: len(tries) > 2)
    [told] = [one for one in caplog.records if "A job failed" in one.message]
    assert bool(told.exc_info) is stack


async def test_a_database_that_is_away_is_told_once_until_it_is_back(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    async def run() -> None:
        tries.append(1)
        if len(tries) not in {4, 5}:
            raise ConnectionRefusedError(111, "no")

    start([Job("patient", every=0.01, run=run)])
    await _until(lambda: len(tries) > 8)
    assert len([one for one in caplog.records if "A job failed" in one.message]) == 2


async def test_a_single_job_runs_in_one_process(start: Start) -> None:
    """Two runners stand for two processes: each has a connection of its own."""
    mine: list[str] = []
    yours: list[str] = []
    first = start([Job("one", every=0.01, run=_counting(mine))])
    await _until(lambda: len(mine) > 3)
    free: list[str] = []
    everywhere = Job("two", every=0.01, run=_counting(free), single=False)
    start([Job("one", every=0.01, run=_counting(yours)), everywhere])
    await _until(lambda: len(free) > 20)
    assert yours == []
    await first.stop()
    await _until(lambda: len(yours) > 3)


async def test_a_lost_lock_is_taken_again(start: Start, dsn: str) -> None:
    seen: list[str] = []
    start([Job("held", every=0.01, run=_counting(seen))])
    await _until(lambda: len(seen) > 0)
    killer = await asyncpg.connect(dsn)
    await killer.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'configuration:jobs' AND datname = current_database()"
    )
    await killer.close()
    count = len(seen)
    await _until(lambda: len(seen) > count + 5)


async def test_stop_waits_for_the_turn_in_progress(start: Start) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        begun.set()
        await asyncio.sleep(0.2)
        ended.set()

    runner = start([Job("slow", every=3600, run=run)])
    await begun.wait()
    await runner.stop()
    assert ended.is_set()


async def test_each_turn_has_a_correlation_of_its_own(start: Start) -> None:
    seen: list[str | None] = []

    async def run() -> bool:
        seen.append(correlation_id.get())
        return len(seen) < 3

    start([Job("traced", every=3600, run=run)])
    await _until(lambda: len(seen) == 3)
    assert len(set(seen)) == 3
    assert None not in seen


@pytest.mark.parametrize("error", [RuntimeError("again"), asyncio.CancelledError()])
async def test_what_ends_by_an_error_begins_again(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Also by a CancelledError that is not ours: libraries let theirs out."""
    starts: list[str] = []
    sleep = asyncio.sleep

    async def run() -> None:
        starts.append(SERVICE.get())
        raise error

    monkeypatch.setattr("asyncio.sleep", lambda _seconds: sleep(0))
    task = asyncio.create_task(keep_running("configuration", "part", run))
    async with asyncio.timeout(20):
        while len(starts) < 3:
            await sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert starts[0] == "configuration"
