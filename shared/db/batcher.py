"""Group commit: concurrent callers share one transaction.

There is no timer. While one batch is on its way, whoever comes joins the next: the round trip is
the window. Measured against a statement a request: nine times the throughput (engineering §4).
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from shared.db import metrics
from shared.db.pool import (
    Connection,
    Pool,
    connected,
    is_data_error,
    is_transient,
    transaction,
)

Item = TypeVar("Item")
Result = TypeVar("Result")

Flush = Callable[[Connection, Sequence[Item]], Awaitable[Sequence[Any]]]
"""Takes items with different keys, returns a result for each, in order. It may run again with the
same items after a rollback. A result that is an exception is raised to that caller alone."""
Lock = Callable[[Connection, Sequence[Any]], Awaitable[None]]
"""Takes the batch's keys, locks their rows in an order that every transaction keeps."""

CROWD = 32
"""Keys that wait: below it one lane serves best."""
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0


class Overloaded(Exception):  # noqa: N818 - what the caller is told
    """Too much waits already, or the database is away: try again later."""


@dataclass
class _Entry(Generic[Item]):
    item: Item
    key: Any
    answer: asyncio.Future[Any] = field(repr=False)
    since: float


class Batcher(Generic[Item, Result]):
    """Puts the items of concurrent callers into shared transactions.

    `lock` runs first with the batch's keys; a batch holds a key once, and two batches on their way
    never share one, so items of a key are written in the order they came. At most `max_waiting`
    items wait, nobody for more than about `longest` seconds; passing errors are tried again for
    `patience` seconds; `parallel` batches may be on their way at once, each further one for `crowd`
    keys that wait. With `turn` a batch leaves one turn of the event loop later, for whoever is
    being read at that moment: where a batch is dear. `first` goes in BEGIN's round trip; with
    `reads` a flush is one statement that only reads, and gets a connection without a transaction.
    """

    def __init__(
        self,
        name: str,
        pool: Pool,
        flush: Flush[Item],
        *,
        key: Callable[[Item], Any],
        lock: Lock | None = None,
        max_batch: int = 256,
        max_waiting: int = 2000,
        parallel: int = 1,
        crowd: int = CROWD,
        patience: float = 10.0,
        longest: float = 10.0,
        first: str = "",
        reads: bool = False,
        turn: bool = False,
    ) -> None:
        self._name, self._pool, self._first, self._reads = name, pool, first, reads
        self._turn = turn
        self._flush, self._key, self._lock = flush, key, lock
        self._max_batch, self._max_waiting = max_batch, max_waiting
        self._parallel, self._crowd = parallel, crowd
        self._patience, self._longest = patience, longest
        # Entries by key; `_ready` holds the keys that wait and are not on their way.
        self._queues: dict[Any, deque[_Entry[Item]]] = {}
        self._ready: deque[Any] = deque()
        self._waiting = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._flying: dict[int, Sequence[_Entry[Item]]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        metrics.BATCH_WAITING.labels(name).set_function(lambda: self._waiting)
        self._items = metrics.BATCH_ITEMS.labels(name)
        self._seconds = metrics.BATCH_SECONDS.labels(name)

    async def put(self, item: Item) -> Result:
        """Return the item's own result once its batch has committed.

        Raises Overloaded when it cannot be taken or written now, the flush's error when the item
        itself is at fault. A cancelled caller's item may still be written.
        """
        if self._closed or self._waiting >= self._max_waiting:
            metrics.BATCH_REFUSED.labels(self._name).inc()
            raise Overloaded(f"{self._name}: {self._waiting} items wait already")
        loop = asyncio.get_running_loop()
        entry = _Entry(item, self._key(item), loop.create_future(), loop.time())
        self._enqueue(entry)
        self._start_worker()
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._longest / 2, self._sweep)
        result: Result = await entry.answer
        return result

    async def close(self) -> None:
        """Take nothing more and wait until all that was taken is answered."""
        self._closed = True
        while self._workers:
            await asyncio.wait(self._workers)

    def _enqueue(self, entry: _Entry[Item]) -> None:
        queue = self._queues.get(entry.key)
        if queue is None:
            queue = self._queues[entry.key] = deque()
            self._ready.append(entry.key)
        queue.append(entry)
        self._waiting += 1

    def _start_worker(self) -> None:
        """Open a lane: the first for anybody, each further one for a crowd."""
        lanes = len(self._workers)
        if lanes < self._parallel and len(self._ready) > lanes * self._crowd:
            # A context of its own: a batch belongs to all of its callers, not to the first one.
            task = asyncio.create_task(self._work(), context=contextvars.Context())
            self._workers.add(task)

    async def _work(self) -> None:
        try:
            while True:
                if self._turn:
                    await asyncio.sleep(0)
                batch = self._take()
                if not batch:
                    return
                self._flying[id(batch)] = batch
                try:
                    await self._write(batch)
                finally:
                    del self._flying[id(batch)]
                    self._release(batch)
                if len(self._workers) > 1 and len(self._ready) <= self._crowd:
                    return  # the others manage
        finally:
            # Here, not in a callback: a caller that was just answered may put again before the
            # callbacks run, and must not count on a worker that has stopped looking.
            self._workers.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _sweep(self) -> None:
        """Answer who has waited too long, also for a batch that is out: the database hangs.

        Nothing else would: a server that is stopped, or a disk that stands still, breaks no
        connection. What is out may yet be written; devices and clients may repeat what they asked.
        """
        self._sweeper = None
        loop = asyncio.get_running_loop()
        batches: list[Iterable[_Entry[Item]]] = [*self._queues.values(), *self._flying.values()]
        left = False
        for entry in [entry for batch in batches for entry in batch if not entry.answer.done()]:
            if loop.time() - entry.since >= self._longest:
                metrics.BATCH_REFUSED.labels(self._name).inc()
                entry.answer.set_exception(Overloaded(f"{self._name}: waited too long"))
            left = True
        if left:
            self._sweeper = loop.call_later(self._longest / 2, self._sweep)

    def _take(self) -> list[_Entry[Item]]:
        batch: list[_Entry[Item]] = []
        while self._ready and len(batch) < self._max_batch:
            key = self._ready.popleft()
            queue = self._queues[key]
            while queue and queue[0].answer.done():  # its caller left
                queue.popleft()
                self._waiting -= 1
            if queue:
                batch.append(queue.popleft())
                self._waiting -= 1
            else:
                del self._queues[key]
        return batch

    def _release(self, batch: Sequence[_Entry[Item]]) -> None:
        for entry in batch:
            if self._queues[entry.key]:
                self._ready.append(entry.key)
            else:
                del self._queues[entry.key]
            if not entry.answer.done():  # this worker was cancelled from outside
                entry.answer.cancel()

    async def _write(self, batch: Sequence[_Entry[Item]]) -> None:
        """Write a batch; split it while the values in it are at fault."""
        try:
            results = await self._persist(batch)
        except Exception as error:  # noqa: BLE001 - each caller gets it
            if len(batch) > 1 and is_data_error(error):
                metrics.BATCH_SPLITS.labels(self._name).inc()
                middle = len(batch) // 2
                await self._write(batch[:middle])
                await self._write(batch[middle:])
                return
            results = [error] * len(batch)
        for entry, result in zip(batch, results, strict=True):
            _answer(entry.answer, result)

    async def _persist(self, batch: Sequence[_Entry[Item]]) -> Sequence[Any]:
        """Write in one transaction, again and again while errors pass by themselves."""
        deadline = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._transact(batch)
            except Exception as error:
                if not is_transient(error):
                    raise
                if time.monotonic() + pause > deadline:
                    raise Overloaded(f"{self._name}: the database does not answer") from error
            metrics.BATCH_RETRIES.labels(self._name).inc()
            # Spread out, so that two batches that met in a deadlock do not meet again.
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _transact(self, batch: Sequence[_Entry[Item]]) -> Sequence[Any]:
        begun = time.monotonic()
        async with (
            connected(self._pool) if self._reads else transaction(self._pool, self._first) as tx
        ):
            if self._lock is not None:
                await self._lock(tx, [entry.key for entry in batch])
            results = await self._flush(tx, [entry.item for entry in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{self._name}: {len(results)} results for {len(batch)} items")
        self._items.observe(len(batch))
        self._seconds.observe(time.monotonic() - begun)
        return results


def _answer(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
