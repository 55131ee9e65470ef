"""A service as a process of its own: it starts, tells how it is, and stops when it is told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from cryptography import x509
from prometheus_client import REGISTRY

from shared.db.migrate import SchemaError, SchemaTooNewError, migrate
from shared.runtime.boot import serving
from shared.runtime.clock import SystemClock
from shared.runtime.running import opened
from shared.runtime.service import Context, Parts
from shared.runtime.tokens import Signer
from shared.sealed import ensure_service_keys, token_key
from tools.cli import local_tls, services
from tools.embedded.home import Home
from tools.embedded.testing import MakeDatabase, MakeTopic

ROOT = Path(__file__).resolve().parents[2]
NAME = "configuration"
Environ = Callable[..., dict[str, str]]


@pytest.fixture
def environ(tmp_path: Path, muster_home: Home) -> Environ:
    """Settings of a service on free ports; Kafka is where nobody listens unless it is given."""
    ensure_service_keys(tmp_path, NAME)

    def make(dsn: str, **more: str) -> dict[str, str]:
        ports = muster_home.ports(["boot-api", "boot-devices", "boot-internal"])
        return {
            "MUSTER_DATABASE_URL": dsn,
            "MUSTER_KAFKA_BOOTSTRAP": "127.0.0.1:1",
            "MUSTER_KEYS_DIR": str(tmp_path),
            "MUSTER_SCHEMA_WAIT_SECONDS": "0",
            **{f"MUSTER_{n.partition('-')[2].upper()}_PORT": str(p) for n, p in ports.items()},
            **more,
        }

    return make


async def _get(url: str, **more: Any) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url, **more) as answer:
        return answer.status, await answer.text()


async def test_probes_and_metrics_are_answered_without_kafka(
    make_database: MakeDatabase, environ: Environ
) -> None:
    settings = environ(await make_database(NAME))
    async with serving([services.load(NAME)], settings) as process:
        internal = process.address("internal")
        assert await _get(f"{internal}/livez") == (200, "ok\n")
        assert await _get(f"{internal}/readyz") == (200, "ok\n")
        status, text = await _get(f"{internal}/metrics")
        assert status == 200
        assert 'muster_db_pool_connections{service="configuration",state="idle"}' in text
        assert 'muster_watchdog_healthy{service="configuration"} 1.0' in text
        # It has no route for people and none for devices.
        assert process.address("api") is None
        assert process.address("devices") is None


async def test_readiness_follows_the_database(
    make_database: MakeDatabase, environ: Environ
) -> None:
    settings = environ(await make_database(NAME))
    async with serving([services.load(NAME)], settings, roles=["http"]) as process:
        internal = process.address("internal")
        await process.services[NAME].context.pool.close()
        assert await _get(f"{internal}/readyz") == (503, "not ready: configuration\n")
        assert await _get(f"{internal}/livez") == (200, "ok\n")


async def test_the_device_listener_speaks_tls(
    make_database: MakeDatabase, environ: Environ, tmp_path: Path
) -> None:
    ensure_service_keys(tmp_path, "enrollment")
    tls = local_tls.ensure(tmp_path / "tls")
    settings = environ(
        await make_database("enrollment"),
        MUSTER_DEVICES_TLS_CERT=str(tls.cert),
        MUSTER_DEVICES_TLS_KEY=str(tls.key),
    )
    async with serving([services.load("enrollment")], settings, roles=["http"]) as process:
        address = process.address("devices") or ""
        assert address.startswith("https://127.0.0.1:")
        ends = x509.load_pem_x509_certificate(tls.cert.read_bytes()).not_valid_after_utc
        name, labels = "muster_http_tls_not_after_timestamp_seconds", {"listener": "devices"}
        assert REGISTRY.get_sample_value(name, labels) == ends.timestamp()
        trust = _trust(tls.authority)
        assert await _get(f"{address}/nothing", ssl=trust) == (404, "not_found\n")
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await _get(f"{address}/nothing")
        with pytest.raises(aiohttp.ClientError):
            await _get(address.replace("https", "http"))


def _trust(path: Path) -> Any:
    return ssl.create_default_context(cafile=str(path))


async def test_a_schema_that_is_not_there_is_waited_for(
    make_empty_database: MakeDatabase, environ: Environ
) -> None:
    dsn = await make_empty_database(NAME)
    with pytest.raises(SchemaError):
        async with opened(services.load(NAME), environ(dsn)):
            pytest.fail("it started without its schema")
    waiting = environ(dsn, MUSTER_SCHEMA_WAIT_SECONDS="60")

    async def start() -> str:
        async with opened(services.load(NAME), waiting) as running:
            return running.name

    task = asyncio.create_task(start())
    await asyncio.sleep(0.2)
    assert not task.done()
    await migrate(dsn, NAME)
    assert await asyncio.wait_for(task, 60) == NAME


async def test_a_schema_that_is_too_new_is_refused_at_once(
    make_database: MakeDatabase, environ: Environ
) -> None:
    dsn = await make_database(NAME)
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "INSERT INTO schema_migration (source, number, name, phase, checksum) "
        "VALUES ('configuration', 9999, '9999_post_future.sql', 'post', 'x')"
    )
    await connection.close()
    settings = environ(dsn, MUSTER_SCHEMA_WAIT_SECONDS="3600")
    with pytest.raises(SchemaTooNewError, match="newer release"):
        async with opened(services.load(NAME), settings):
            pytest.fail("it started on a schema that it does not know")


async def test_a_database_that_goes_away_while_the_parts_are_built_is_waited_for(
    make_database: MakeDatabase, environ: Environ
) -> None:
    """Some services write at their first start: a restart of the database must not end them."""
    service, tries = services.load(NAME), 0

    @asynccontextmanager
    async def build(context: Context[Any]) -> AsyncIterator[Parts]:
        nonlocal tries
        tries += 1
        if tries == 1:
            await context.pool.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        async with service.build(context) as parts:
            yield parts

    settings = environ(await make_database(NAME), MUSTER_SCHEMA_WAIT_SECONDS="60")
    async with opened(replace(service, build=build), settings) as running:
        assert await running.ready()
    assert tries == 2


class Child:
    """`muster run configuration` as a process."""

    def __init__(self, process: asyncio.subprocess.Process, internal: str, log: Path) -> None:
        self.process, self.internal, self._log = process, internal, log

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    async def until_ready(self) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    if (await _get(f"{self.internal}/readyz"))[0] == 200:
                        return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)


@asynccontextmanager
async def _child(settings: Mapping[str, str], log: Path, *roles: str) -> AsyncIterator[Child]:
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tools.cli", "run", NAME),
            *(word for role in roles for word in ("--role", role)),
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=file,
            stderr=file,
        )
    internal = f"http://127.0.0.1:{settings['MUSTER_INTERNAL_PORT']}"
    try:
        yield Child(process, internal, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("roles", [(), ("http",), ("worker",), ("consumer", "worker")])
async def test_sigterm_ends_it_in_order(
    make_database: MakeDatabase,
    kafka_bootstrap: str,
    make_topic: MakeTopic,
    environ: Environ,
    tmp_path: Path,
    roles: tuple[str, ...],
) -> None:
    await make_topic(name="muster.device-state.v1", compacted=True)
    settings = environ(await make_database(NAME), MUSTER_KAFKA_BOOTSTRAP=kafka_bootstrap)
    async with _child(settings, tmp_path / "log", *roles) as child:
        await child.until_ready()
        child.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.process.wait(), 90) == 0
        said = [line["message"] for line in child.lines()]
        assert said[-1] == "Stopped"
        ours = [line for line in child.lines() if line["logger"].startswith("shared.")]
        errors = [line for line in ours if line["level"] == "error"]
        assert errors == [], json.dumps(errors, indent=1)


async def test_a_second_signal_does_not_wait(
    make_database: MakeDatabase, environ: Environ, tmp_path: Path
) -> None:
    """Something holds the shutdown up: a request whose body does not come."""
    ensure_service_keys(tmp_path, "enrollment")
    settings = environ(await make_database(NAME), MUSTER_SHUTDOWN_SECONDS="600")
    async with _child(settings, tmp_path / "log", "http") as child:
        await child.until_ready()
        port = int(settings["MUSTER_INTERNAL_PORT"])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_held_request(tmp_path))
        await writer.drain()
        await asyncio.sleep(0.3)
        child.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(90):
            while not any(line["message"] == "Stopping" for line in child.lines()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert child.process.returncode is None
        child.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.process.wait(), 90) == 137
        writer.close()


def _held_request(keys: Path) -> bytes:
    """The head of a good internal call, and less of its body than it promises."""
    kid, key = token_key(keys / "enrollment")
    token = Signer("enrollment", key, kid, SystemClock()).internal(NAME)
    return (
        "POST /internal/v1/configuration/declarations HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        "Content-Length: 50\r\n\r\n{"
    ).encode()


async def test_missing_keys_say_what_to_do(
    make_database: MakeDatabase, environ: Environ, tmp_path: Path
) -> None:
    settings = environ(await make_database(NAME), MUSTER_KEYS_DIR=str(tmp_path / "nothing"))
    log = tmp_path / "log"
    async with _child(settings, log) as child:
        assert await asyncio.wait_for(child.process.wait(), 90) == 1
    assert "no token key" in log.read_text()
    assert "Traceback" not in log.read_text()
