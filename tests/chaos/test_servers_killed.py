"""Both servers killed -9 under `make up`: they come back by themselves, with what they had."""

from __future__ import annotations

import asyncio
import os
import signal

import asyncpg
import pytest

from shared.bus.kafka import KafkaAccess, stop
from tools.embedded.home import Home
from tools.embedded.progress import Silent
from tools.embedded.stack import Embedded

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(420)]


async def test_killed_servers_come_back_with_what_they_had(muster_home: Home) -> None:
    home = Home.at(muster_home.root / "killed", cache=muster_home.cache)
    embedded, said = Embedded(home, Silent(), environ={}), list[str]()
    async with embedded as running, embedded.kept(said.append):
        admin = await asyncpg.connect(running.postgres_admin)
        await admin.execute("CREATE TABLE kept AS SELECT 1 AS one")
        login = running.services["inventory"].kafka
        access = KafkaAccess(
            bootstrap=login.bootstrap, username=login.username, password=login.password
        )
        producer = access.producer()
        await producer.start()
        first = await producer.send_and_wait("muster.inventory.v1", b"{}", partition=0)
        before = embedded.pids()
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(90):
            while sum("is back" in line for line in said) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert not set(embedded.pids().values()) & set(before.values())
        again = await asyncpg.connect(running.postgres_admin)
        assert await again.fetchval("SELECT one FROM kept") == 1
        await again.close()
        second = await producer.send_and_wait("muster.inventory.v1", b"{}", partition=0)
        assert second.offset == first.offset + 1
        await stop(producer)
        # What is stopped on purpose stays away.
        await embedded.stop_kafka()
        await asyncio.sleep(1.2)
        assert "kafka" not in embedded.pids()
    assert len([line for line in said if "died" in line]) == 2
