"""`muster keys` as an administrator uses it, beside a service that goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.db.pool import Pool
from shared.runtime import resealing
from shared.sealed import LocalCipher
from tools.cli import services
from tools.cli.main import main


def dsn_of(pool: Pool) -> str:
    return str(pool._connect_args[0])  # type: ignore[attr-defined]


async def renewed(
    name: str, pool: Pool, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, int]:
    """Rotate a service's keys, encrypt all anew and take the old keys away.

    Returns how many secrets each column holds, all of them under the newest key.
    """
    monkeypatch.setenv("MUSTER_DATABASE_URL", dsn_of(pool))
    monkeypatch.setenv("MUSTER_KEYS_DIR", str(keys))
    for action in ("rotate", "reseal", "status"):
        assert await asyncio.to_thread(main, ["keys", action, name]) == 0
    held = {}
    for column in services.load(name).encrypted:
        folder = keys / (column.keys or name)
        for old in LocalCipher.load(folder).older:
            (folder / f"{old}.local.key").unlink()
        found = await resealing.standing(pool, column)
        assert found.older_than(LocalCipher.load(folder).newest) == 0, column.name
        held[column.name] = found.by_key.total()
    return held
