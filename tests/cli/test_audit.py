"""`muster audit`: what verifying says and how it ends; erasing people."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.console.app import SERVICE as CONSOLE
from shared.bus import outbox
from shared.events.audit import AuditRecorded
from shared.runtime.testing import trial
from tests.console.audit_files import KEY, Writer, written
from tests.console.auditing import did, hear, told
from tools.cli import place
from tools.cli.main import main
from tools.embedded.testing import MakeDatabase


@pytest.fixture
def writer() -> Writer:
    return written([[0, 0, 1], [], [2]])


@pytest.fixture
def export(writer: Writer, tmp_path: Path) -> Path:
    return _file(tmp_path / "audit.jsonl", writer)


def _file(path: Path, writer: Writer) -> Path:
    path.write_bytes(b"".join(orjson.dumps(values) + b"\n" for values in writer.file))
    return path


def _root(writer: Writer) -> str:
    last = writer.roots[-1]
    return orjson.dumps({**asdict(last.root), "signature": last.signature}).decode()


def _pem(path: Path, key: Ed25519PrivateKey) -> Path:
    path.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return path


def test_a_good_one(export: Path, writer: Writer, tmp_path: Path, capsys: Any) -> None:
    root = tmp_path / "root.json"
    root.write_text(_root(writer))
    assert main(["audit", "verify", str(export), "--root", str(root)]) == 0
    said = capsys.readouterr().out
    assert "4 of 3 chains" in said
    assert "GOOD: everything up to root 3 is as it was when that root was told." in said
    assert main(["audit", "verify", str(export), "--root", _root(writer)]) == 0
    assert main(["audit", "verify", str(export), "--key", str(_pem(tmp_path / "k", KEY))]) == 0


def test_a_changed_one_is_named(export: Path, writer: Writer, tmp_path: Path, capsys: Any) -> None:
    root = _root(writer)
    writer.file[3]["entry"]["actor"] = "eve"
    _file(export, writer)
    assert main(["audit", "verify", str(export), "--root", root]) == 1
    assert "BROKEN (changed): The content of Link 2 of muster.audit.a.v1/0" in (
        capsys.readouterr().out
    )
    other = _pem(tmp_path / "other", Ed25519PrivateKey.generate())
    assert main(["audit", "verify", str(_file(export, written([[0]]))), "--key", str(other)]) == 1
    assert "BROKEN (forged)" in capsys.readouterr().out


def test_what_is_under_no_root_is_not_proven(tmp_path: Path, writer: Writer, capsys: Any) -> None:
    young = Writer()
    young.link(("muster.audit.a.v1", 0))
    young.end()
    file, key = _file(tmp_path / "young", young), _pem(tmp_path / "k", KEY)
    assert main(["audit", "verify", str(file), "--key", str(key)]) == 1
    assert "UNPROVEN" in capsys.readouterr().out
    assert main(["audit", "verify", str(file), "--root", _root(writer)]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "compared with nothing proves nothing"),
        (["--root", "nowhere"], "nowhere: No such file"),
        (["--root", "{}"], "no root of an audit"),
        (["--key", "nowhere"], "nowhere: No such file"),
        (["--key", __file__], "no public Ed25519 key"),
    ],
)
def test_what_was_asked_for_wrongly(
    export: Path, capsys: Any, arguments: list[str], said: str
) -> None:
    assert main(["audit", "verify", str(export), *arguments]) == 1
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there(writer: Writer, capsys: Any) -> None:
    assert main(["audit", "verify", "nowhere", "--root", _root(writer)]) == 1
    assert "nowhere: No such file" in capsys.readouterr().err


async def test_people_are_erased_at_the_machine(
    make_database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    dsn = await make_database("console")
    settings = {"MUSTER_DATABASE_URL": dsn, "MUSTER_KEYS_DIR": str(tmp_path)}
    monkeypatch.setattr(place, "environment_of", lambda _service: settings)
    async with trial(CONSOLE, dsn, tmp_path) as console:
        arrived = told(did("a.b", actor="account:1"), did("a.b", actor="account:2"))
        await hear(console, arrived)
        erase = ["audit", "erase", "--actor", "account:1", "--reason", "asked for"]
        assert await asyncio.to_thread(main, erase) == 0
        assert "1 entry says no more" in capsys.readouterr().out
        one = ["audit", "erase", str(arrived[1].meta.event_id), "--reason", "asked for"]
        assert await asyncio.to_thread(main, one) == 0
        assert await asyncio.to_thread(main, ["audit", "erase", "--reason", "nobody"]) == 1
        shown = await console.call("GET", "/api/v1/console/audit")
        assert [row["erased"] for row in shown.json["items"]] == [True, True]
        async with console.context.pool.acquire() as connection:
            events = await outbox.read(connection, "console")
        entries = [event for event in events if isinstance(event, AuditRecorded)]
        assert [entry.action for entry in entries] == ["audit.erase", "audit.erase"]
        assert entries[0].actor
        assert entries[0].actor != "account:1"
