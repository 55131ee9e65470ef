"""Telling the relay that rows wait, without a lock in anybody's transaction.

In the relay's own process an event loop's event does it. From another process a NOTIFY does, sent
at most once in a while, in autocommit, on a connection of its own: inside the business transaction
its queue lock would cost three quarters of the throughput (engineering §3.1). A lost wake-up costs
one poll of the relay.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Protocol

from shared.db.pool import Pool, is_transient

log = logging.getLogger(__name__)

NOTIFY_EVERY_SECONDS = 0.02
NOTIFY = "SELECT pg_notify($1, '')"


class Sleeper(Protocol):
    """What can be woken: a relay, a notifier."""

    def wake(self) -> None: ...


_sleepers: dict[str, set[Sleeper]] = defaultdict(set)


def channel_of(service: str) -> str:
    """The NOTIFY channel of a service's outbox."""
    return f"muster_outbox_{service}"


def wake(service: str) -> None:
    """Say that this process has committed events of a service; cheap, and safe to repeat."""
    for sleeper in list(_sleepers[service]):
        sleeper.wake()


@functools.cache
def waker(service: str) -> Callable[[], None]:
    """Return one and the same function for each service, so that it can be told apart."""
    return functools.partial(wake, service)


@contextlib.contextmanager
def listening(service: str, sleeper: Sleeper) -> Iterator[None]:
    """Have `sleeper` woken by commits in this process for the length of a block."""
    _sleepers[service].add(sleeper)
    try:
        yield
    finally:
        _sleepers[service].discard(sleeper)


class Notifier:
    """Passes wake-ups on to relays in other processes.

    Run it beside HTTP and consumers wherever the relay does not hold every shard itself.
    """

    def __init__(self, service: str, pool: Pool) -> None:
        self._service = service
        self._pool = pool
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        self._wanted.set()

    async def run(self) -> None:
        """Send coalesced notifications until cancelled."""
        with listening(self._service, self):
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                try:
                    await self._pool.execute(NOTIFY, channel_of(self._service))
                except Exception as error:
                    if not is_transient(error):
                        raise
                    log.debug("the relay was not notified: it polls", exc_info=error)
                await asyncio.sleep(NOTIFY_EVERY_SECONDS)
