"""What people read."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tools.cli.commands import parameters
from tools.cli.errors import CliError
from tools.cli.events import chosen
from tools.cli.main import main, parser
from tools.cli.output import ago, fields, table, text

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    table(("name", "n"), [("a", 1), ("longer", None)], empty="none")
    assert capsys.readouterr().out == "NAME    N\na       1\nlonger  -\n"


def test_an_empty_table_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    table(("name",), [], empty="No device: enroll one.")
    assert capsys.readouterr().out == "No device: enroll one.\n"


def test_fields_leave_out_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    fields({"name": "a", "serial_number": None, "tags": ["x"]})
    assert capsys.readouterr().out == 'name  a\ntags  ["x"]\n'


def test_a_devices_name_cannot_move_the_cursor() -> None:
    assert text("Ada\x1b[2J\r\n\x9b") == "Ada�[2J���"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "now"),
        (5, "5 s ago"),
        (200, "3 min ago"),
        (7300, "2 h ago"),
        (200_000, "2 d ago"),
        (-7300, "in 2 h"),
    ],
)
def test_times_are_short(seconds: int, shown: str) -> None:
    assert ago((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == shown


def test_parameters_are_text_json_or_files(tmp_path: Path) -> None:
    path = tmp_path / "p.mobileconfig"
    path.write_bytes(b"\x00profile")
    found = parameters(["pin=012345", f"profile=@{path}", 'deep:={"a": [1]}', "note=a=b"])
    assert found == {
        "pin": "012345",
        "profile": base64.b64encode(b"\x00profile").decode(),
        "deep": {"a": [1]},
        "note": "a=b",
    }


@pytest.mark.parametrize("word", ["pin", "=x", ":=1", "x:={", "x=@/nowhere/at/all"])
def test_a_parameter_that_cannot_be_says_why(word: str) -> None:
    with pytest.raises(CliError):
        parameters([word])


def test_topics_are_chosen_by_a_part_of_their_name() -> None:
    assert chosen(["device-state"]) == ["muster.device-state.v1"]
    assert "muster.device.v1" in chosen(None)
    assert not [name for name in chosen(None) if "audit" in name or "dead-letter" in name]
    with pytest.raises(CliError, match="docs/events"):
        chosen(["nothing-like-it"])


def test_every_command_has_help() -> None:
    assert "simulate" in parser().format_help()


def test_a_command_without_a_running_muster_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUSTER_HOME", str(tmp_path))
    monkeypatch.delenv("MUSTER_API_URL", raising=False)
    for words in (["devices"], ["token", "--audience", "inventory"], ["migrate", "inventory"]):
        assert main(words) == 1
        assert "make up" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["nonsense"], ["devices", "--nonsense"], ["token"], []])
def test_wrong_words_are_a_usage_error(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
