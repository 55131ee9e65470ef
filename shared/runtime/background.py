"""What a service does besides answering: jobs on a timer, the relay, the runner."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from uuid import uuid4

import asyncpg

from shared.bus.context import correlation_id
from shared.bus.ending import ended, is_wanted
from shared.db.errors import describe, is_transient
from shared.runtime import metrics
from shared.runtime.jobs import Job, Wake
from shared.runtime.logs import SERVICE

log = logging.getLogger(__name__)

_RETRY_SECONDS = 30.0
_GRACE_SECONDS = 5.0
TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))"


class JobLocks:
    """Session advisory locks of a service's single jobs, on one connection of their own.

    A lock once won is kept while the connection lives: the same process goes on with the job.
    """

    def __init__(self, dsn: str, service: str) -> None:
        self._dsn, self._service = dsn, service
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._held: set[str] = set()
        self._turn = asyncio.Lock()

    async def holds(self, job: str) -> bool:
        """Whether this process may run the job now."""
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._held.clear()
                self._connection = await asyncpg.connect(
                    self._dsn,
                    timeout=5,
                    command_timeout=5,
                    server_settings={"application_name": f"{self._service}:jobs"},
                )
            if job not in self._held:
                key = f"muster:{self._service}:{job}"
                if await self._connection.fetchval(TRY_LOCK, key):
                    self._held.add(job)
            return job in self._held

    async def close(self) -> None:
        if self._connection is not None:
            with suppress(OSError, asyncpg.PostgresError, TimeoutError):
                await self._connection.close(timeout=2)


class JobRunner:
    """Runs the jobs of one service until it is stopped."""

    def __init__(self, service: str, jobs: Sequence[Job], locks: JobLocks) -> None:
        self._service, self._jobs, self._locks = service, jobs, locks
        self._stopping = False
        self._working: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        for job in self._jobs:
            self._tasks[job.name] = asyncio.create_task(self._loop(job), name=f"job:{job.name}")

    async def stop(self) -> None:
        """Let turns in progress end within five seconds; end pauses at once."""
        self._stopping = True
        for name, task in self._tasks.items():
            if name not in self._working:
                task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks.values(), timeout=_GRACE_SECONDS)
            await ended(late)
        await self._locks.close()

    async def _loop(self, job: Job) -> None:
        SERVICE.set(self._service)
        wake, told_at = job.wake or Wake(), 0.0
        while not self._stopping:
            pause: float = job.every
            self._working.add(job.name)
            try:
                more = await self._turn(job)
                told_at = 0.0
                if more:
                    continue
            except (Exception, asyncio.CancelledError) as error:
                if is_wanted(error):
                    raise
                pause = min(job.every, _RETRY_SECONDS)
                told_at = _tell(job, error, told_at)
            finally:
                self._working.discard(job.name)
            if not self._stopping:
                await wake.wait(pause)

    async def _turn(self, job: Job) -> bool:
        """One run of the job, if it is ours to run; True: more work waits."""
        if job.single and not await self._locks.holds(job.name):
            return False
        correlation_id.set(uuid4().hex)
        started = time.perf_counter()
        result = "failed"
        try:
            more = bool(await job.run())
            result = "worked" if more else "done"
            return more
        finally:
            seconds = time.perf_counter() - started
            metrics.JOB_SECONDS.labels(self._service, job.name, result).observe(seconds)


def _tell(job: Job, error: BaseException, told_at: float) -> float:
    """Say that a job failed; return when that was said last.

    Of what passes by itself, such as a database that is away, without a stack, and once in half a
    minute until the job works again.
    """
    now = time.monotonic()
    if not is_transient(error):
        log.error("A job failed; it goes on", extra={"job": job.name}, exc_info=error)
    elif not told_at or now - told_at > _RETRY_SECONDS:
        known = {"job": job.name, "error": describe(error)}
        log.error("A job failed; it goes on", extra=known)
    else:
        return told_at
    return now


async def keep_running(service: str, what: str, run: Callable[[], Awaitable[None]]) -> None:
    """Start `run` again, with growing pauses, whenever it ends, as long as nobody cancels us."""
    SERVICE.set(service)
    pause = 1.0
    while True:
        started = time.monotonic()
        try:
            await run()
        except (Exception, asyncio.CancelledError) as error:
            if is_wanted(error):
                raise
            log.exception("It stopped and is started again", extra={"part": what})
        if time.monotonic() - started > _RETRY_SECONDS:
            pause = 1.0
        await asyncio.sleep(pause)
        pause = min(pause * 2, _RETRY_SECONDS)


async def watch_loop_lag(every: float = 0.5) -> None:
    """Measure how late the loop wakes a sleeper."""
    while True:
        due = time.perf_counter() + every
        await asyncio.sleep(every)
        metrics.LOOP_LAG_SECONDS.observe(max(0.0, time.perf_counter() - due))
