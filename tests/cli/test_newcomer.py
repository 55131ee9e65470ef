"""What somebody meets who types a command for the first time, or types it a bit wrongly."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tools.cli import commands, devices, policies
from tools.cli.errors import CliError
from tools.cli.known import of_devices
from tools.cli.main import main, parser

ROOT = Path(__file__).resolve().parents[2]
PHONE = "01900000-0000-7000-8000-000000000001"
MAC = "01900000-0000-7000-8000-000000000002"
COMMAND = "01900000-0000-7000-8000-00000000000c"


class Answers:
    """Stands in for the client: fixed pages and objects by service and path."""

    def __init__(
        self, pages: Mapping[str, list[dict[str, Any]]], ones: Mapping[str, Any] | None = None
    ) -> None:
        self._pages, self._ones = pages, ones or {}
        self.asked: list[str] = []
        self.sent: dict[str, Any] = {}

    def pages(self, service: str, path: str, *_query: Any, most: int) -> Iterator[dict[str, Any]]:
        yield from self._pages.get(service + path, [])[:most]

    def several(self, service: str, paths: list[str]) -> list[Any]:
        self.asked += paths
        return [self._ones.get(service + path) for path in paths]

    def call(
        self, service: str, _method: str, path: str, body: Any = None, query: Any = None
    ) -> Any:
        self.sent = body or query or {}
        return self._ones[service + path]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answers]:
    def answer(pages: Any, ones: Any = None) -> Answers:
        stand_in = Answers(pages, ones)
        for family in (commands, devices, policies):
            monkeypatch.setattr(family, "Client", lambda: stand_in)
        return stand_in

    return answer


def command(state: str = "active", total: int = 20, **progress: int) -> dict[str, Any]:
    return {"state": state, "target_count": total, "progress": progress}


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (command(acknowledged=15, verified=5), "done 20/20"),
        (command(acknowledged=16, failed=1, queued=3), "3 of 20 open, 1 failed"),
        (command(acknowledged=17, expired=2, failed=1), "done 17/20, 2 expired, 1 failed"),
        (command(unexpanded=20), "20 of 20 open, 20 not queued yet"),
        (command(queued=12, unexpanded=8), "20 of 20 open, 8 not queued yet"),
        (command("held", 400), "held, 400 target(s)"),
        (command("cancelled", 2, acknowledged=1), "cancelled, 2 target(s)"),
    ],
)
def test_a_command_says_how_far_it_is(asked: dict[str, Any], shown: str) -> None:
    assert commands.progressed(asked) == shown


def test_the_list_of_commands_shows_progress(
    answering: Callable[..., Answers], capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "command_id": COMMAND,
        "kind": "inventory.refresh",
        "section": "security",
        "command_class": "harmless",
        "state": "active",
        "target_count": 1,
        "created_at": "2026-01-01T00:00:00Z",
        "actor": "local:ada",
        "reason": None,
        "hold_reason": None,
        "end_reason": None,
    }
    whole = {**row, "progress": {"acknowledged": 1}}
    answering({"command_queue": [row]}, {f"command_queue/{COMMAND}": whole})
    assert main(["command", "list"]) == 0
    shown = capsys.readouterr().out
    assert "inventory.refresh security" in shown
    assert "done 1/1" in shown


def test_verdicts_take_names_from_where_they_are_known(
    answering: Callable[..., Answers], capsys: pytest.CaptureFixture[str]
) -> None:
    verdict: dict[str, Any] = {
        "device_id": PHONE,
        "device_name": None,
        "serial": "F2LX",
        "policy_name": "Basics",
        "state": "compliant",
        "changed_at": "2026-01-01T00:00:00Z",
        "findings": [],
    }
    answering(
        {
            "compliance/verdicts": [verdict],
            "inventory/devices": [{"device_id": PHONE, "name": "Ada's iPhone"}],
        }
    )
    assert main(["verdicts"]) == 0
    shown = capsys.readouterr().out
    assert "Ada's iPhone" in shown
    assert PHONE not in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["devices"], "muster credentials create"),
        (["devices", "--state", "ended"], "leave out"),
        (["verdicts"], "muster policies list"),
        (["verdicts", "--state", "error"], "matches"),
        (["command", "list"], "muster command send"),
        (["command", "list", "--state", "held"], "leave out"),
        (["policies", "list"], "muster policies create"),
    ],
)
def test_nothing_to_show_says_why_and_what_to_do(
    words: list[str],
    says: str,
    answering: Callable[..., Answers],
    capsys: pytest.CaptureFixture[str],
) -> None:
    answering({})
    assert main(words) == 0
    assert says in capsys.readouterr().out


def test_devices_may_be_named_behind_an_option(answering: Callable[..., Answers]) -> None:
    accepted = {
        "command_id": COMMAND,
        "command_class": "disruptive",
        "target_count": 2,
        "state": "active",
        "hold_reason": None,
    }
    ones = {
        "command_queue": accepted,
        f"enrollment/devices/{PHONE}": {"device_id": PHONE},
        f"enrollment/devices/{MAC}": {"device_id": MAC},
    }
    asked = answering({}, ones)
    words = ["command", "send", "device.restart", PHONE, "--reason", "update", MAC]
    assert main(words) == 0
    assert asked.sent["device_ids"] == [PHONE, MAC]


def test_an_option_that_does_not_exist_is_no_device() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["command", "send", "device.restart", PHONE, "--reasn", "update"])
    assert ended.value.code == 2


def test_a_device_beyond_the_first_page_is_asked_for_alone() -> None:
    page = [{"device_id": f"other-{number}"} for number in range(499)]
    page.append({"device_id": PHONE, "name": "Ada's iPhone"})
    mac = {"device_id": MAC, "name": "Ada's Mac"}
    asked = Answers({"inventory/devices": page}, {f"inventory/devices/{MAC}": mac})
    found = of_devices(asked, "inventory", [PHONE, MAC])  # type: ignore[arg-type]
    assert found == {PHONE: page[-1], MAC: mac}
    assert asked.asked == [f"/devices/{MAC}"]


def test_a_word_that_means_several_devices_is_refused(answering: Callable[..., Answers]) -> None:
    rows = [{"device_id": each, "name": "Mac", "serial": each[-1:]} for each in (PHONE, MAC)]
    client = answering({}, {"enrollment/devices": {"items": rows}})
    with pytest.raises(CliError, match=r"Mac \(1\), Mac \(2\)"):
        devices.resolve(client, "Mac")  # type: ignore[arg-type]


def test_a_reader_that_has_enough_ends_the_command_quietly() -> None:
    program = (
        "import argparse, sys; from tools.cli import main\n"
        "def run(arguments):\n"
        "    for number in range(100_000): print(number)\n"
        "    return 0\n"
        "class Parser:\n"
        "    def parse_known_args(self, given): return argparse.Namespace(run=run), []\n"
        "main.parser = lambda word: Parser()\n"
        "sys.exit(main.main(['x']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_each_command_has_one_line_in_the_help() -> None:
    lines = parser().format_help().splitlines()
    assert any(line.split()[:1] == ["dead-letters"] and "gave up" in line for line in lines)


def _named(requirements: str) -> set[str]:
    pinned = (ROOT / "requirements" / requirements).read_text().splitlines()
    return {line.partition("==")[0] for line in pinned if "==" in line and line[0] != " "}


def _without_packages_of_developers(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `muster` as `make up` has installed it."""
    only = _named("dev.txt") - _named("embedded.txt")
    gone = [
        module
        for module, packages in packages_distributions().items()
        if all(one.lower().replace("_", "-") in only for one in packages)
    ]
    assert "yaml" in gone
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({gone!r}))\n"
        "from tools.cli.main import main\n"
        f"sys.exit(main({list(words)!r}))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_help_needs_no_packages_of_developers() -> None:
    done = _without_packages_of_developers("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "dead-letters" in done.stdout


@pytest.mark.parametrize("what", ["events", "monitoring"])
def test_what_only_developers_can_make_says_how(what: str) -> None:
    done = _without_packages_of_developers("generate", what, "--check")
    assert done.returncode == 1
    assert done.stderr == f"muster: yaml is not installed: `make {what}` sees to it\n"


def test_a_lost_server_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost(_arguments: argparse.Namespace) -> int:
        raise ConnectionRefusedError(111, "Connect call failed")

    monkeypatch.setattr(policies, "run_list", lost)
    assert main(["policies", "list"]) == 1
    assert "make up" in capsys.readouterr().err


def test_simulate_explains_itself(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--help"]) == 0
    assert "--seed" in capfd.readouterr().out
    assert main(["simulate"]) == 1
    assert "simulate apple" in capfd.readouterr().err
