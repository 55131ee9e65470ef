"""`muster groups`, against a real inventory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.inventory.app import SERVICE
from shared.runtime.clock import FixedClock
from shared.runtime.testing import trial
from tests.inventory.conftest import START, InventoryTrial
from tools.cli import groups
from tools.cli.main import main
from tools.embedded.testing import MakeDatabase


@pytest.fixture
async def inventory(
    make_database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[InventoryTrial]:
    """Words for devices are their ids here: who resolves names and serials is enrollment."""
    clock, dsn = FixedClock(START), await make_database("inventory")
    async with trial(SERVICE, dsn, tmp_path, clock=clock) as service:
        monkeypatch.setenv("MUSTER_API_URL", service.url("api"))
        monkeypatch.setenv("MUSTER_TOKEN_INVENTORY", service.token())
        monkeypatch.setattr(groups, "resolve", lambda _client, word: word)
        yield InventoryTrial(service, clock)


async def muster(*words: Any) -> int:
    return await asyncio.to_thread(main, ["groups", *map(str, words)])


async def test_a_group_from_making_to_deleting(
    inventory: InventoryTrial, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await muster("list") == 0
    assert "muster groups create" in capsys.readouterr().out
    assert await muster("create", "Paris", "--description", "Shops", "--protected") == 0
    group = capsys.readouterr().out.strip()
    first, second = [await inventory.device(serial=f"S{n}", name=f"Phone {n}") for n in range(2)]
    assert await muster("add", "paris", first, "--reason", "moved", second) == 0
    assert "2 in the group now" in capsys.readouterr().err
    assert await muster("list") == 0
    shown = capsys.readouterr().out
    assert "Paris" in shown
    assert group in shown
    assert await muster("list", "Paris") == 0
    assert "S0" in capsys.readouterr().out
    assert await muster("remove", group, first) == 0
    assert "1 in the group now" in capsys.readouterr().err
    assert await muster("delete", "Paris") == 0
    assert await muster("list", "Paris") == 1
    assert "no group is called Paris" in capsys.readouterr().err


async def test_what_cannot_be_says_why(
    inventory: InventoryTrial, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await muster("create", "Paris") == 0
    assert await muster("create", "PARIS") == 1
    assert "name_taken" in capsys.readouterr().err
    assert await muster("add", "Paris") == 1
    assert "name the devices" in capsys.readouterr().err
