"""What the broker knows of a consumer, and what aiokafka tells only those who read."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.errors import KafkaError

from shared.bus.kafka import KafkaAccess, disconnect, start

_ASK_SECONDS = 10.0


def check(consumer: AIOKafkaConsumer) -> None:
    """Raise what ended or holds up the consumer's part in its group.

    aiokafka tells it to whoever reads, and goes on only then: a consumer that holds no partitions,
    or none at this moment, reads nothing and would stand still for ever.
    """
    consumer._coordinator.check_errors()  # noqa: SLF001 - there is no public way


async def ask(kafka: KafkaAccess, group: str, consumer: AIOKafkaConsumer) -> int | None:
    """Ask over a new connection how many partitions a consumer holds in its group.

    -1: it is no member, or the group has not come to rest. None: the broker does not answer.
    """
    coordinator = consumer._coordinator  # noqa: SLF001 - aiokafka shows its member id nowhere else
    admin = kafka.admin()
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            await start(admin)
            [answer] = await admin.describe_consumer_groups([group])
    except (KafkaError, OSError, TimeoutError):
        return None
    finally:
        await disconnect(admin)
    error, _, state, _, _, members = answer.groups[0][:6]
    if error:
        return None
    if state != "Stable" or coordinator is None:
        return -1
    held = {member: assignment for member, _, _, _, assignment in members}
    if coordinator.member_id not in held:
        return -1
    assigned = ConsumerProtocol.ASSIGNMENT.decode(held[coordinator.member_id])
    return len(assigned.partitions())
