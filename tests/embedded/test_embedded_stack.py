from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import TopicAuthorizationFailedError
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from shared.events import registry
from tools.embedded import databases
from tools.embedded.errors import AlreadyRunningError, EmbeddedError
from tools.embedded.home import Home
from tools.embedded.kafka import survivor
from tools.embedded.progress import Silent
from tools.embedded.stack import (
    OUTSIDE_KAFKA,
    OUTSIDE_POSTGRES,
    Embedded,
    login_of,
    stop_leftovers,
)
from tools.embedded.testing import SecureKafka
from tools.embedded.topics import TopicPlan, provision

START_AND_DIE = """
import asyncio, os, sys
from pathlib import Path
from tools.embedded.home import Home
from tools.embedded.stack import Embedded

async def main():
    await Embedded(Home.at(Path(sys.argv[1]), cache=Path(sys.argv[2])), environ={}).start()
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


def stack(home: Home, **environ: str) -> Embedded:
    return Embedded(home, Silent(), environ=environ)


async def test_every_service_gets_an_access_of_its_own(own_home: Home) -> None:
    embedded = stack(own_home)
    async with embedded as running:
        assert set(running.services) == set(registry.SERVICES)
        assert embedded.servers_running()
        for service, access in running.services.items():
            connection = await asyncpg.connect(access.database_url)
            assert await connection.fetchval("SELECT current_user") == f"muster_{service}"
            await connection.close()
            assert access.kafka.username == service
        with pytest.raises(AlreadyRunningError):
            await stack(own_home).start()
        assert embedded.servers_running()
    assert await stop_leftovers(own_home) == []


async def test_settings_lie_where_only_we_can_read_them(own_home: Home) -> None:
    async with stack(own_home) as running:
        for service, access in running.services.items():
            file = own_home.secrets / f"{service}.env"
            assert file.stat().st_mode & 0o777 == 0o600
            line = f"MUSTER_{service.upper()}_DATABASE_URL={access.database_url}"
            assert line in file.read_text().splitlines()
    shown = repr(running)
    kept = [path for path in own_home.secrets.iterdir() if path.suffix != ".env"]
    assert len(kept) == 2 * len(registry.SERVICES) + len(databases.WORKERS) + 3
    worker = (own_home.secrets / "webhooks.env").read_text()
    assert worker == f"MUSTER_CONSOLE_DATABASE_URL={running.workers['webhooks']}\n"
    assert not [path.name for path in kept if path.read_text().strip() in shown]


def start_and_die(home: Home) -> None:
    argv = [sys.executable, "-c", START_AND_DIE, str(home.root), str(home.cache)]
    done = subprocess.run(argv, check=False, capture_output=True, cwd=Path(__file__).parents[2])
    assert done.returncode == -9, done.stderr


async def test_servers_of_a_killed_process_are_taken_over(own_home: Home) -> None:
    start_and_die(own_home)
    left = survivor(own_home.run)
    assert left
    async with stack(own_home) as running:
        assert running.kafka_admin.bootstrap == f"127.0.0.1:{left[1]}"
        assert survivor(own_home.run) == left
    assert survivor(own_home.run) is None


async def test_servers_of_a_killed_process_can_be_stopped(own_home: Home) -> None:
    start_and_die(own_home)
    assert await stop_leftovers(own_home) == ["PostgreSQL", "Kafka"]
    assert await stop_leftovers(own_home) == []


async def test_outside_servers_are_used_when_given(
    own_home: Home, postgres_admin: str, kafka_bootstrap: str
) -> None:
    given = {OUTSIDE_POSTGRES: postgres_admin, OUTSIDE_KAFKA: kafka_bootstrap}
    async with stack(own_home, **given) as running:
        access = running.services["inventory"]
        connection = await asyncpg.connect(access.database_url)
        assert await connection.fetchval("SELECT current_schema()") == "muster_inventory"
        await connection.close()
        assert access.kafka.username is None
        admin = AIOKafkaAdminClient(bootstrap_servers=access.kafka.bootstrap)
        await admin.start()
        assert set(registry.TOPICS) <= set(await admin.list_topics())
        await admin.close()
    assert not (own_home.state / "postgres").exists()
    assert not (own_home.state / "kafka").exists()


async def test_a_failed_start_leaves_nothing_running(own_home: Home, kafka_bootstrap: str) -> None:
    nobody = f"postgresql://postgres@127.0.0.1:{own_home.ports(['nobody'])['nobody']}/postgres"
    with pytest.raises(EmbeddedError, match="PostgreSQL cannot be reached"):
        await stack(own_home, **{OUTSIDE_POSTGRES: nobody}).start()
    assert survivor(own_home.run) is None
    with own_home.lock():
        pass


async def test_a_start_that_is_called_off_leaves_nothing_running(own_home: Home) -> None:
    starting = asyncio.create_task(stack(own_home).start())
    while not (survivor(own_home.run) or starting.done()):  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert await stop_leftovers(own_home) == []
    async with stack(own_home) as running:
        assert set(running.services) == set(registry.SERVICES)


def test_an_address_may_carry_a_sign_in() -> None:
    login = login_of("root:p%40ss@broker:9092")
    assert (login.bootstrap, login.username, login.password) == ("broker:9092", "root", "p@ss")
    assert login_of("broker:9092").username is None


async def test_topics_follow_the_registry(kafka_bootstrap: str) -> None:
    login = login_of(kafka_bootstrap)
    name = f"muster.changing-{os.getpid()}.v1"
    resource = ConfigResource(ConfigResource.Type.TOPIC, name)
    client = AdminClient(login.client_settings())
    for plan in (
        TopicPlan(name, "inventory", retention_ms=60_000),
        TopicPlan(name, "inventory", retention_ms=90_000),
        TopicPlan(name, "inventory", compacted=True),
    ):
        await provision(login, [plan], {})
        settings = client.describe_configs([resource])[resource].result(timeout=30)
        assert {key: settings[key].value for key in plan.settings} == plan.settings


async def test_a_right_that_the_registry_no_longer_gives_is_taken_back(
    secure_kafka: SecureKafka,
) -> None:
    admin = secure_kafka.login("admin")
    service = {"visitor": "not a secret"}
    topics = [TopicPlan(f"muster.visited-{number}.v1", "visitor") for number in range(2)]
    await provision(admin, topics, service)
    await provision(admin, topics[:1], service)
    producer = AIOKafkaProducer(
        bootstrap_servers=admin.bootstrap,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_plain_username="visitor",
        sasl_plain_password=service["visitor"],
    )
    try:
        await producer.start()
        await producer.send_and_wait(topics[0].name, b"{}")
        with pytest.raises(TopicAuthorizationFailedError):
            await producer.send_and_wait(topics[1].name, b"{}")
    finally:
        await producer.stop()
