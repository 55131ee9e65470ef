"""Starts a service as `muster run` does, but on a stage: only tests start services through this.

What production code must not have a switch for is done here, in the process that is tried: its
clock is read from a file, its way to the broker leads through a proxy, and a fault may be planted
to prove that the storm finds it.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.conn import AIOKafkaConnection

from services.command_queue import expansion, sweeping
from services.command_queue.store import targets
from shared.bus import relay, runner
from shared.runtime import running
from tests.chaos.storm.clocks import MovedClock
from tests.chaos.storm.plants import PLANTS
from tools.cli.main import main

CLOCK = "CHAOS_CLOCK"
"""A file with the seconds by which this process's clock is wrong."""
BROKER = "CHAOS_BROKER"
"""`port:port`: the broker's port, and that of the proxy to be used instead."""
PLANT = "CHAOS_PLANT"


def _move_clock(file: Path) -> None:
    setattr(running, "SystemClock", partial(MovedClock, file))  # noqa: B010 - a class, replaced


def _go_through(broker: int, proxy: int) -> None:
    """The broker tells its clients its own port: turn them round where they connect."""
    connect = AIOKafkaConnection.__init__

    def redirected(self: Any, host: str, port: int, **more: Any) -> None:
        connect(self, host, proxy if port == broker else port, **more)

    AIOKafkaConnection.__init__ = redirected


def _be_given_up_soon() -> None:
    """A member that is silent loses its partitions within seconds, not half a minute: a service
    that was stopped in the middle of a batch wakes up among others who do its work.
    """
    begin = AIOKafkaConsumer.__init__

    def hasty(self: Any, *topics: str, **more: Any) -> None:
        begin(self, *topics, **{**more, "session_timeout_ms": 6000, "heartbeat_interval_ms": 1000})

    AIOKafkaConsumer.__init__ = hasty


def _work_in_small_pieces() -> None:
    """Twenty devices are to be what a hundred thousand are elsewhere: many transactions, between
    any two of which the process may die.
    """
    targets.CHUNK = expansion.LIMIT = 7  # type: ignore[misc]
    sweeping._TARGETS = sweeping._COMMANDS = 10  # type: ignore[misc]
    relay.BATCH_ROWS, runner.BATCH_RECORDS = 20, 16


def dress() -> None:
    _be_given_up_soon()
    _work_in_small_pieces()
    if file := os.environ.get(CLOCK):
        _move_clock(Path(file))
    if ports := os.environ.get(BROKER):
        broker, _, proxy = ports.partition(":")
        _go_through(int(broker), int(proxy))
    if plant := os.environ.get(PLANT):
        PLANTS[plant].sow()


if __name__ == "__main__":
    dress()
    sys.exit(main())
