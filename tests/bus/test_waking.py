from __future__ import annotations

import asyncio

import asyncpg

from shared.bus import outbox, waking
from shared.db.pool import Pool, transaction
from tests.bus.small import SERVICE
from tests.bus.test_outbox import changed


async def test_commits_of_a_process_without_a_relay_become_few_notifications(
    pool: Pool, dsn: str
) -> None:
    heard: list[str] = []
    arrived = asyncio.Event()

    def hear(*call: object) -> None:
        heard.append(str(call[2]))
        arrived.set()

    listener = await asyncpg.connect(dsn)
    await listener.add_listener(waking.channel_of(SERVICE), hear)
    notifier = asyncio.create_task(waking.Notifier(SERVICE, pool).run())
    await asyncio.sleep(0)
    for _ in range(200):
        waking.wake(SERVICE)
    async with transaction(pool) as tx:
        await outbox.emit(tx, [changed()])
    await arrived.wait()
    await asyncio.sleep(0.1)
    assert 1 <= len(heard) <= 3
    assert set(heard) == {"muster_outbox_inventory"}
    notifier.cancel()
    await asyncio.gather(notifier, return_exceptions=True)
    await listener.close()


async def test_another_services_relay_is_not_woken(pool: Pool) -> None:
    class Bell:
        rung = 0

        def wake(self) -> None:
            self.rung += 1

    own, other = Bell(), Bell()
    with waking.listening(SERVICE, own), waking.listening("compliance", other):
        async with transaction(pool) as tx:
            await outbox.emit(tx, [changed()])
    assert (own.rung, other.rung) == (1, 0)
