"""With the rights that `make up` gives: each service as itself, on the broker and the database."""

from __future__ import annotations

from datetime import UTC, datetime

from shared.bus import Handlers, outbox
from shared.bus.kafka import KafkaAccess
from shared.bus.rebuild import needed, rebuild
from shared.bus.relay import Relay
from shared.bus.runner import Runner
from shared.bus.sending import Sending
from shared.db.migrate import Folders, migrate
from shared.db.pool import Pool, open_pool, transaction
from shared.events import uuid7
from shared.events.commands import DeviceSeen
from shared.events.device_state import DeviceState
from tests.bus.small import effects, note, running, until
from tools.embedded.testing import SecureKafka, SecurePostgres

WRITER, READER = "command_queue", "inventory"
HANDLERS: Handlers = {DeviceSeen: note, DeviceState: note}


def access(kafka: SecureKafka, service: str) -> KafkaAccess:
    login = kafka.login(service)
    return KafkaAccess(
        bootstrap=login.bootstrap,
        username=login.username,
        password=login.password,
        heartbeat_ms=500,
    )


async def opened(postgres: SecurePostgres, service: str, folders: Folders) -> Pool:
    files = {"bus": folders["bus"], service: folders[READER]}
    await migrate(postgres.dsn(service), service, folders=files)
    return await open_pool(postgres.dsn(service), name="tests")


async def test_an_event_goes_from_one_service_to_another(
    secure_postgres: SecurePostgres, secure_kafka: SecureKafka, small_folders: Folders
) -> None:
    writer = await opened(secure_postgres, WRITER, small_folders)
    reader = await opened(secure_postgres, READER, small_folders)
    consuming = access(secure_kafka, READER)
    relay = Relay(WRITER, secure_postgres.dsn(WRITER), access(secure_kafka, WRITER))
    async with running(relay, Runner(READER, reader, consuming, HANDLERS)):
        async with transaction(writer) as tx:
            await outbox.emit(tx, [DeviceSeen(device_id=uuid7(), seen_at=datetime.now(UTC))])

        async def arrived() -> bool:
            return len(await effects(reader)) == 1

        await until(arrived)
    assert not await needed(READER, consuming, reader, HANDLERS)
    assert await rebuild(READER, consuming, reader, HANDLERS) == 0
    await writer.close()
    await reader.close()


async def test_the_broker_refuses_a_foreign_topic_and_the_rest_goes_on(
    secure_postgres: SecurePostgres, secure_kafka: SecureKafka, small_folders: Folders
) -> None:
    pool = await opened(secure_postgres, "compliance", small_folders)
    sending = Sending("compliance", access(secure_kafka, "compliance"))
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            """
            SELECT 1 AS id, 1 AS sequence, 'muster.device.v1' AS aggregatetype, 'k' AS aggregateid,
                   'x' AS type, '{}' AS payload, gen_random_uuid() AS event_id,
                   now() AS occurred_at, NULL AS correlation_id, NULL AS causation_id,
                   NULL AS traceparent
            """
        )
    lanes = await sending.lanes(rows)
    assert await sending.step(lanes) == []
    assert lanes == {}
    assert sending.refused() == ["muster.device.v1"]
    await sending.close()
    await pool.close()
