"""A client that is broken off while it starts leaves no connection behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest

from shared.bus.kafka import KafkaAccess, disconnect, start, stop
from tests.bus.small import TOPIC


@pytest.mark.parametrize("kind", ["consumer", "producer", "admin"])
async def test_a_client_that_is_cancelled_while_it_connects_is_closed(
    kafka: KafkaAccess, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """aiokafka forgets the connection over which it asks for the cluster."""
    asked, send = asyncio.Event(), AIOKafkaConnection.send
    opened: list[AIOKafkaConnection] = []

    def telling(self: AIOKafkaConnection, request: Any, **how: Any) -> Any:
        opened.append(self)
        if isinstance(request, MetadataRequest):
            asked.set()
        return send(self, request, **how)

    monkeypatch.setattr(AIOKafkaConnection, "send", telling)
    client: Any = {
        "consumer": lambda: kafka.consumer(None, [TOPIC]),
        "producer": kafka.producer,
        "admin": kafka.admin,
    }[kind]()
    starting = asyncio.create_task(start(client))
    await asked.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await (disconnect if kind == "admin" else stop)(client)
    assert opened
    assert not any(connection.connected() for connection in opened)
