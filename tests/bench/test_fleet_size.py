"""What a device costs beside a small fleet and beside a large one: nothing may grow with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path

import pytest

from shared.events.registry import SERVICES
from tools.bench import scenarios
from tools.bench.fleet import Device, prepare
from tools.bench.generator import Generator
from tools.bench.meter import calm
from tools.bench.muster import Muster
from tools.bench.scenarios import Ground
from tools.embedded import postgres
from tools.embedded.cluster import REPOSITORY

CACHE = REPOSITORY / ".muster" / "cache"
SAMPLE = 100
SMALL, LARGE = 1000, 6000
"""With the sample, 1,200 and 7,400: an index has two levels beside both."""
FEW = 500
"""Blocks that jobs, which look by the clock, may add to any table."""
MOST = 1.4
"""Deeper indexes and chance: what reads the fleet for one device takes many times as much."""
_STATISTICS_SECONDS = 11.0
"""After that an idle backend has told what it read."""
_QUEUES = "VACUUM {}.outbox"
"""What was deleted from a queue is no part of the question."""
_VERSIONS = "VACUUM (INDEX_CLEANUP ON) muster_console.device, muster_console.search"
"""Nor are dead versions, which nobody clears away here: with them the index of each order of the
console's list has a level more, half as much again of what a change costs.
"""

BLOCKS = """
SELECT schemaname || '.' || relname AS name,
       heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0) AS blocks
FROM pg_statio_user_tables WHERE schemaname LIKE 'muster_%'
"""


class Trial:
    """The whole of Muster, on a PostgreSQL that never looks at its tables by itself."""

    def __init__(self, ground: Ground, muster: Muster, devices: Iterator[Device]) -> None:
        self._ground, self._muster, self._devices = ground, muster, devices

    async def grow(self, count: int) -> None:
        await self._muster.adopt(list(islice(self._devices, count)))
        await self._at_rest()

    async def cost(self) -> dict[str, int]:
        """Blocks of each table read while some devices came, got a command, and answered."""
        before = await self._blocks()
        imported, joining = (list(islice(self._devices, SAMPLE)) for _ in range(2))
        await self._muster.adopt(imported)
        await self._answer(imported)
        line = (await scenarios.enroll(self._ground, joining)).json()
        assert "statuses" not in line, line
        await self._at_rest()
        after = await self._blocks()
        return {name: blocks - before.get(name, 0) for name, blocks in after.items()}

    async def _answer(self, devices: Sequence[Device]) -> None:
        _, asked = await scenarios.enqueue(self._ground, devices)
        line = (await scenarios.drain(self._ground, asked)).json()
        assert "not_handed_out" not in line, line

    async def _at_rest(self) -> None:
        await calm(self._muster.everything())
        for service in SERVICES:
            await self._muster.admin.execute(_QUEUES.format(f"muster_{service}"))
        await self._muster.admin.execute(_VERSIONS)
        await asyncio.sleep(_STATISTICS_SECONDS)

    async def _blocks(self) -> dict[str, int]:
        return {row["name"]: row["blocks"] for row in await self._muster.admin.fetch(BLOCKS)}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_device_costs_the_same_in_a_fleet_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the plans of a service that began on empty tables, in every service."""
    monkeypatch.setitem(postgres.DURABLE, "autovacuum", "off")
    # On a busy machine who gives way would look as if its work were done.
    monkeypatch.setenv("MUSTER_BACKGROUND_NICE", "0")
    fleet = await asyncio.to_thread(prepare, CACHE / "bench", SMALL + LARGE + 4 * SAMPLE)
    muster = Muster(tmp_path, CACHE, inventory=True)
    async with AsyncExitStack() as stack:
        generator = await stack.enter_async_context(Generator())
        await stack.enter_async_context(muster)
        ground = Ground(muster, generator, CACHE / "bench" / "signatures")
        await muster.serve_pushes()
        trial = Trial(ground, muster, iter(fleet.devices))
        await trial.grow(SMALL)
        small = await trial.cost()
        await trial.grow(LARGE)
        large = await trial.cost()
    grown = {
        name: (small.get(name, 0), blocks)
        for name, blocks in large.items()
        if blocks > MOST * small.get(name, 0) + FEW
    }
    assert not grown
