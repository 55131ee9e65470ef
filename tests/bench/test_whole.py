"""The bench as a whole, small: it runs, and what it prints can be read."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.bench import __main__ as command
from tools.bench import compare, nanomdm
from tools.embedded.errors import EmbeddedError


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_devices_poll_and_drain_and_every_command_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own, as `make bench` does."""
    saved = tmp_path / "run.jsonl"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tools.bench", "--devices", "20", "--seconds", "1", "--rates",
        "--commands", "2", "--only", "poll", "tls", "drain", "--save", str(saved),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in saved.read_text().splitlines()]
    assert len(out.splitlines()) == len(lines)
    assert {"cpu", "cores", "postgresql", "kafka", "commit"} <= lines[0]["machine"].keys()
    by_name = {line["scenario"]: line for line in lines if "scenario" in line}
    assert by_name.keys() == {
        "poll", "poll@2", "tls poll", "tls storm", "drain", "drain of 2",
    }  # fmt: skip
    for line in by_name.values():
        assert "statuses" not in line, line
        assert "not_handed_out" not in line, line
        assert line["cpu_us"] > 0
        assert line["units"] > 0
        assert line["generator_us"] > 0
    assert by_name["drain of 2"]["units"] == 40
    assert by_name["drain"]["wal_bytes"] > 0
    assert {"command_queue-http", "postgres"} == by_name["poll"]["cpu_us_by"].keys()
    assert "command_queue-relay" in by_name["drain"]["apart_us_by"]
    monkeypatch.setattr(sys, "argv", ["compare", str(saved), str(saved)])
    assert compare.main() == 0


def test_every_scenario_has_a_sentence_for_its_reader() -> None:
    for name, scenario in command.SCENARIOS.items():
        assert scenario.__doc__, name


def test_without_go_the_peers_say_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedError, match="`go` was not found"):
        nanomdm.install(tmp_path / "cache")
