from __future__ import annotations

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    TopicAuthorizationFailedError,
)

from shared.events import registry
from tools.embedded.testing import SecureKafka, SecurePostgres


def sign_in(kafka: SecureKafka, service: str, *, password: str | None = None) -> dict[str, str]:
    login = kafka.login(service)
    return {
        "bootstrap_servers": login.bootstrap,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": service,
        "sasl_plain_password": password or login.password or "",
    }


async def test_a_service_reads_only_its_own_schema(secure_postgres: SecurePostgres) -> None:
    owner = await asyncpg.connect(secure_postgres.dsn("inventory"))
    await owner.execute("CREATE TABLE IF NOT EXISTS private (id int)")
    await owner.close()
    other = await asyncpg.connect(secure_postgres.dsn("compliance"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await other.fetch("SELECT * FROM muster_inventory.private")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await other.execute("CREATE TABLE public.shared_by_accident (id int)")
    await other.close()


async def test_every_service_gets_its_defaults(secure_postgres: SecurePostgres) -> None:
    for service in registry.SERVICES:
        connection = await asyncpg.connect(secure_postgres.dsn(service))
        found = {
            name: await connection.fetchval("SELECT current_setting($1)", name)
            for name in ("search_path", "statement_timeout", "lock_timeout", "fsync")
        }
        await connection.close()
        assert found == {
            "search_path": f"muster_{service}",
            "statement_timeout": "30s",
            "lock_timeout": "2s",
            "fsync": "on",
        }


async def test_postgresql_refuses_a_wrong_password(secure_postgres: SecurePostgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(secure_postgres.dsn("inventory"), password="wrong")


async def test_a_service_writes_its_own_topics_and_no_others(secure_kafka: SecureKafka) -> None:
    producer = AIOKafkaProducer(
        **sign_in(secure_kafka, "inventory"), acks="all", enable_idempotence=True
    )
    await producer.start()
    try:
        sent = await producer.send_and_wait("muster.inventory.v1", b"{}")
        assert sent.offset >= 0
        with pytest.raises(TopicAuthorizationFailedError):
            await producer.send_and_wait("muster.device.v1", b"{}")
    finally:
        await producer.stop()


async def test_a_service_reads_every_topic_in_its_own_group(secure_kafka: SecureKafka) -> None:
    producer = AIOKafkaProducer(**sign_in(secure_kafka, "enrollment"))
    await producer.start()
    await producer.send_and_wait("muster.device.v1", b"hello")
    await producer.stop()
    consumer = AIOKafkaConsumer(
        "muster.device.v1",
        **sign_in(secure_kafka, "compliance"),
        group_id="muster-compliance",
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        record = await consumer.getone()
        assert record.value == b"hello"
    finally:
        await consumer.stop()


async def test_a_service_cannot_use_anothers_group(secure_kafka: SecureKafka) -> None:
    consumer = AIOKafkaConsumer(
        "muster.device.v1", **sign_in(secure_kafka, "compliance"), group_id="muster-inventory"
    )
    try:
        with pytest.raises(GroupAuthorizationFailedError):
            await consumer.start()
    finally:
        await consumer.stop()


async def test_kafka_refuses_a_wrong_password(secure_kafka: SecureKafka) -> None:
    producer = AIOKafkaProducer(**sign_in(secure_kafka, "inventory", password="wrong"))
    try:
        with pytest.raises(KafkaConnectionError):
            await producer.start()
    finally:
        await producer.stop()
