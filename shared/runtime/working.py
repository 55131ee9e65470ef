"""What a running service does by itself: it consumes, it runs jobs, it sends its events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from shared.bus import waking
from shared.bus.ending import ended
from shared.bus.relay import Relay
from shared.bus.runner import Runner
from shared.runtime import metrics
from shared.runtime.background import JobLocks, JobRunner, keep_running
from shared.runtime.running import Running, kafka_of
from shared.runtime.service import Role

# A batch in hand is finished and committed, what is on its way to the broker arrives.
_ORDERLY_SECONDS = 25.0


class Work:
    """The background work of one service in the roles of its process."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._relay: Relay | None = None
        self._runner: Runner | None = None
        self._jobs: JobRunner | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def name(self) -> str:
        return self._running.name

    def start(self, roles: Collection[Role]) -> None:
        """Begin what these roles ask for."""
        for role in roles:
            metrics.RUNNING.labels(self.name, role).set(1)
        context, parts = self._running.context, self._running.parts
        kafka = kafka_of(context.settings)
        if "worker" in roles:
            if not self._running.service.jobs_only:
                self._relay = Relay(self.name, context.settings.database_url, kafka)
                self._spawn("relay", self._relay.run)
            locks = JobLocks(context.settings.database_url, self.name)
            self._jobs = JobRunner(self.name, parts.jobs, locks)
            self._jobs.start()
        else:
            self._spawn("notifier", waking.Notifier(self.name, context.pool).run)
        if "consumer" in roles and parts.handlers and not self._running.service.jobs_only:
            self._runner = Runner(self.name, context.road, kafka, parts.handlers)
            self._spawn("runner", self._runner.run)

    def _spawn(self, what: str, run: Callable[[], Awaitable[None]]) -> None:
        work = keep_running(self.name, what, run)
        self._tasks[what] = asyncio.create_task(work, name=f"{self.name}:{what}")

    async def stop(self) -> None:
        """End consuming, then jobs, then sending; what waits in the outbox waits there."""
        runner = self._tasks.pop("runner", None)
        await ended({runner} if runner else set(), grace=_ORDERLY_SECONDS)
        if self._jobs is not None:
            await self._jobs.stop()
        await ended(set(self._tasks.values()), grace=_ORDERLY_SECONDS)

    def healthy(self) -> bool:
        """Whether relay and runner make progress; asks no dependency."""
        parts = (self._relay, self._runner)
        return all(part is None or part.healthy() for part in parts)

    async def ready(self) -> bool:
        if self._runner is not None and not self._runner.ready():
            return False
        return await self._running.ready()

    def observe(self) -> None:
        self._running.observe()
