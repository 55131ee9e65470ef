"""`muster run webhooks`: who breaks into it finds webhooks' own secrets and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from services.console.app import SERVICE
from services.console.webhooks.settings import opened_secret
from shared.runtime import running
from shared.runtime.boot import serving
from shared.runtime.running import Running
from shared.runtime.settings import SettingsError
from shared.runtime.testing import Trial
from shared.sealed import WEBHOOK_KEYS, SealError
from tests.console.browsing import signed_in
from tests.console.test_webhooks import _happens, _made, receivers, service
from tools.cli import services
from tools.embedded.databases import role_of

__all__ = ["receivers", "service"]

pytestmark = pytest.mark.usefixtures("proven")

TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = 'muster_console'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
"""
ITS_OWN = {"webhook", "delivery", "schema_migration"}


@dataclass
class Apart:
    """The worker, with what an installation gives it."""

    environ: dict[str, str]
    folder: Path

    @property
    def dsn(self) -> str:
        return self.environ["MUSTER_DATABASE_URL"]


@pytest.fixture
def apart(service: Trial, tmp_path: Path) -> Apart:
    folder = tmp_path / "apart"
    shutil.copytree(tmp_path / WEBHOOK_KEYS, folder / WEBHOOK_KEYS)
    shutil.copytree(tmp_path / "public", folder / "public")
    environ = {
        "MUSTER_DATABASE_URL": _as_worker(service.context.settings.database_url),
        "MUSTER_KEYS_DIR": str(folder),
        "MUSTER_INTERNAL_PORT": "0",
        "MUSTER_OUTBOUND_LOOPBACK": "true",
        "MUSTER_SCHEMA_WAIT_SECONDS": "0",
    }
    return Apart(environ, folder)


@pytest.fixture
async def worker(apart: Apart) -> AsyncIterator[Running]:
    async with running.opened(services.load("webhooks"), apart.environ) as opened:
        yield opened


def _as_worker(dsn: str) -> str:
    return dsn.replace(f"//{role_of('console')}", f"//{role_of('webhooks')}", 1)


async def test_it_tells_and_cannot_sign(service: Trial, receivers: Any, apart: Apart) -> None:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    await _made(owner, receiver.url)
    await _happens(service)
    worker = services.load("webhooks")
    async with serving([worker], apart.environ, roles=["worker"]) as process:
        await receiver.reaches(1)
        await process.services["console"].parts.jobs[1].run()
        signer = process.services["console"].context.tokens.signer
    forged = signer.access("tester", "console", ["webhook.read"], timedelta(minutes=5))
    headers = {"Authorization": f"Bearer {forged}"}
    answer = await service.send("api", "GET", "/api/v1/console/webhooks", None, headers)
    assert answer.status == 401


async def test_its_folder_of_keys_opens_no_other_process(apart: Apart, service: Trial) -> None:
    held = {path.name.partition(".")[2] for path in (apart.folder / WEBHOOK_KEYS).iterdir()}
    assert held == {"local.key"}
    environ = apart.environ | {"MUSTER_DATABASE_URL": service.context.settings.database_url}
    with pytest.raises(FileNotFoundError, match="token key"):
        async with running.opened(SERVICE, environ):
            pass


async def test_it_opens_webhooks_secrets_and_no_other(
    service: Trial, receivers: Any, worker: Running
) -> None:
    """Not a TOTP seed, not the secret of an identity provider's client, nothing sealed to us."""
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    webhook_id, key = await _made(owner, receiver.url)
    fetch, cipher = service.context.pool.fetchval, worker.context.cipher
    sealed = await fetch("SELECT secret FROM webhook")
    assert opened_secret(cipher, webhook_id, sealed) == key
    with pytest.raises(SealError, match="unknown key"):
        opened_secret(service.context.cipher, webhook_id, sealed)
    ours = service.context.cipher
    for table, column in (("totp", "secret"), ("identity_provider", "client_secret")):
        place = {"table": table, "column": column, "row": "1"}
        kept = ours.encrypt(b"kept", **place)
        assert ours.decrypt(kept, **place) == b"kept"
        with pytest.raises(SealError, match="unknown key"):
            cipher.decrypt(kept, **place)
    seal, ring = service.context.sealing.public.seal, service.context.sealing.keyring
    to_us = seal("console", b"told", purpose="push", device_id=webhook_id)
    assert ring.open(to_us, purpose="push", device_id=webhook_id) == b"told"
    with pytest.raises(SealError, match="unknown key"):
        worker.context.sealing.keyring.open(to_us, purpose="push", device_id=webhook_id)


async def test_its_role_reads_no_other_table(service: Trial, apart: Apart) -> None:
    """Nor writes one: a session that it made would be an owner's."""
    tables = {row["relname"] for row in await service.context.pool.fetch(TABLES)}
    assert tables > ITS_OWN
    connection = await asyncpg.connect(apart.dsn)
    try:
        for table in sorted(tables - ITS_OWN):
            for statement in (f'SELECT FROM "{table}"', f'DELETE FROM "{table}"'):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        for forbidden in (
            "INSERT INTO session DEFAULT VALUES",
            "INSERT INTO outbox DEFAULT VALUES",
            "UPDATE webhook SET url = 'https://example.com'",
            "UPDATE delivery SET body = ''",
            "DELETE FROM webhook",
            "CREATE TABLE muster_console.own (id int)",
            f'SET ROLE "{role_of("console")}"',
        ):
            with pytest.raises(asyncpg.PostgresError) as refused:
                await connection.execute(forbidden)
            assert isinstance(refused.value, asyncpg.InsufficientPrivilegeError), forbidden
    finally:
        await connection.close()


async def test_it_refuses_a_role_that_may_more(service: Trial, apart: Apart) -> None:
    environ = apart.environ | {"MUSTER_DATABASE_URL": service.context.settings.database_url}
    assert urlsplit(apart.dsn).path == urlsplit(environ["MUSTER_DATABASE_URL"]).path
    with pytest.raises(SettingsError, match="muster_webhooks"):
        async with running.opened(services.load("webhooks"), environ):
            pass
