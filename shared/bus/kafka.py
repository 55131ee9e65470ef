"""How Muster speaks to Kafka: every setting of aiokafka, in one place (reference kafka.md §8)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import ProducerClosed
from pydantic import BaseModel, ConfigDict, Field

from shared.bus.ending import ended

STOP_SECONDS = 5.0
# An answer of the broker, and less than the pause after which `ended` cancels again.
_FINISH_SECONDS = 0.5
_MAX_BATCH = 256 * 1024
_MAX_PARTITION_FETCH = 128 * 1024
_MAX_FETCH = 8 * 1024 * 1024
# The broker's limit counts compressed bytes, aiokafka's plain ones: the outbox has refused what
# would not fit.
_MAX_REQUEST = 16 * 1024 * 1024


class KafkaAccess(BaseModel):
    """Where the broker is and who we are; without a user name it asks nobody."""

    model_config = ConfigDict(frozen=True)

    bootstrap: str
    username: str | None = None
    password: str | None = Field(default=None, repr=False)
    ca_file: Path | None = None
    """PEM of the authority of the broker's certificate: with it everything goes over TLS."""
    heartbeat_ms: int = 3000
    """How soon members learn of a rebalance; tests shorten it."""

    def producer(self) -> AIOKafkaProducer:
        """Make a producer for one ordered stream; begun by `start`, ended by `stop`."""
        return AIOKafkaProducer(
            **self._client(),
            acks="all",
            enable_idempotence=True,
            linger_ms=0,  # the relay brings whole batches
            max_batch_size=_MAX_BATCH,
            max_request_size=_MAX_REQUEST,
            compression_type="zstd",
            request_timeout_ms=30_000,
        )

    def consumer(self, group: str | None, topics: Iterable[str] = ()) -> AIOKafkaConsumer:
        """Make a consumer that starts at the beginning and commits only when told to.

        Without a group it reads every partition, beside whoever else does.
        """
        return AIOKafkaConsumer(
            *topics,
            **self._client(),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # The sticky assignor keeps its state on the class and never learns its generation.
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=30_000,
            # aiokafka would take the session timeout: the batch in hand must fit into it.
            rebalance_timeout_ms=60_000,
            heartbeat_interval_ms=self.heartbeat_ms,
            # A fetch fills a buffer a partition, and a process may hold hundreds: about one batch
            # of the runner is enough. A longer record comes alone (KIP-74).
            max_partition_fetch_bytes=_MAX_PARTITION_FETCH,
            fetch_max_bytes=_MAX_FETCH,
            # While a partition waits for the database nobody polls; our own watchdog judges that.
            max_poll_interval_ms=86_400_000,
            request_timeout_ms=30_000,
        )

    def admin(self) -> AIOKafkaAdminClient:
        """Make an admin client; the caller ends it by `disconnect`."""
        return AIOKafkaAdminClient(**self._client())

    def _client(self) -> dict[str, Any]:
        protocol = "SASL" if self.username else ""
        context: ssl.SSLContext | None = None
        if self.ca_file:
            context = ssl.create_default_context(cafile=self.ca_file)
        transport = "SSL" if context else "PLAINTEXT"
        settings: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "client_id": "muster",
            "security_protocol": "_".join(filter(None, (protocol, transport))),
            "ssl_context": context,
        }
        if self.username:
            settings |= {
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return settings


def group_of(service: str) -> str:
    """The consumer group of a service; its broker rights name it."""
    return f"muster-{service}"


async def start(client: AIOKafkaProducer | AIOKafkaConsumer | AIOKafkaAdminClient) -> None:
    """Start a client; when cancelled, give what was begun a moment to come to its end.

    aiokafka forgets the connection that asks for the cluster when it is cancelled meanwhile, and
    nobody could close it. The caller stops the client, whether it has started or not.
    """
    starting = asyncio.create_task(client.start())
    try:
        await asyncio.shield(starting)
    finally:
        if not starting.done():
            try:
                await asyncio.wait({starting}, timeout=_FINISH_SECONDS)
            finally:
                await ended({starting})


async def stop(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """Stop a client, but not for ever: aiokafka may hang when the broker is gone (#647, #583).

    It does so in a task of its own: when a fetch waits to be tried again, aiokafka cancels it and
    raises that CancelledError from `stop`, and the caller would take it for its own end.
    """
    stopping = asyncio.create_task(client.stop())
    try:
        await asyncio.wait({stopping}, timeout=STOP_SECONDS)
    finally:
        whole = stopping.done() and not stopping.cancelled() and stopping.exception() is None
        await ended({stopping})
        if not whole:
            await disconnect(client)


async def disconnect(client: AIOKafkaProducer | AIOKafkaConsumer | AIOKafkaAdminClient) -> None:
    """Close the connections of a client, but do not wait for ever until they are closed.

    A `stop` that was broken off has not come to them.
    """
    inner = client.client if isinstance(client, AIOKafkaProducer) else client._client  # noqa: SLF001
    closing = asyncio.create_task(inner.close())
    await asyncio.wait({closing}, timeout=STOP_SECONDS)
    await ended({closing})


async def discard(producer: AIOKafkaProducer) -> None:
    """End a producer without sending what it still holds.

    An idempotent producer retries for ever: one that was only forgotten would send old events
    after new ones, and a compacted topic would keep the old ones.
    """
    sender = producer._sender  # noqa: SLF001 - aiokafka has no public way to end a producer at once
    if sender.sender_task is not None:
        sender.sender_task.cancel()
    producer._message_accumulator.fail_all(ProducerClosed())  # noqa: SLF001 - as above
    await stop(producer)
