"""How far a consumer group is behind, asked of the broker."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from shared.bus.kafka import KafkaAccess, group_of, stop
from tools.embedded.topics import Login

_PAUSE = 0.1


def access(login: Login) -> KafkaAccess:
    return KafkaAccess(bootstrap=login.bootstrap, username=login.username, password=login.password)


class Backlog:
    """`async with Backlog(login, service) as backlog`: `await backlog.waiting()`."""

    def __init__(self, login: Login, service: str) -> None:
        self._group = group_of(service)
        self._access = access(login)
        self._admin: AIOKafkaAdminClient | None = None
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        self._admin, self._consumer = self._access.admin(), self._access.consumer(None)
        await self._admin.start()
        await self._consumer.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._consumer is not None:
            await stop(self._consumer)
        if self._admin is not None:
            await self._admin.close()

    async def waiting(self) -> int:
        """Records that the group has not committed yet, of partitions it ever committed."""
        if self._admin is None or self._consumer is None:
            raise RuntimeError("the backlog is not open")
        committed: dict[TopicPartition, int] = {
            place: found.offset
            for place, found in (await self._admin.list_consumer_group_offsets(self._group)).items()
            if found.offset >= 0
        }
        ends = await self._consumer.end_offsets(list(committed))
        return sum(max(0, ends[place] - offset) for place, offset in committed.items())

    async def until_empty(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        while left := await self.waiting():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{left} records wait for {self._group}")
            await asyncio.sleep(_PAUSE)
