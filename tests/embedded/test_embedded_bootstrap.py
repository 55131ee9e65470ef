from __future__ import annotations

import importlib.util
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.embedded import rank
from tools.embedded.bootstrap import ROOT, SETS, Environment
from tools.embedded.errors import EmbeddedError
from tools.embedded.progress import Progress, Silent

PIN = re.compile(r"^([a-zA-Z0-9_.\[\]-]+)==([^ ;\\]+)", re.MULTILINE)


def pins(name: str) -> set[tuple[str, str]]:
    return set(PIN.findall((ROOT / "requirements" / f"{name}.txt").read_text()))


def checkout(folder: Path) -> Environment:
    """Make a checkout whose sets hold nothing, so that no test needs a registry."""
    (folder / "requirements").mkdir()
    for name in SETS:
        (folder / "requirements" / f"{name}.txt").write_text("# nothing\n")
    return Environment(folder)


def test_a_larger_set_holds_the_smaller_one() -> None:
    assert pins("run") <= pins("embedded") <= pins("dev")


def test_every_package_is_pinned_by_hash_and_by_no_address() -> None:
    for name in ("run", *SETS):
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        entries = re.split(r"\n(?=\S)", text.strip())
        assert all("--hash=sha256:" in entry for entry in entries)
        assert "://" not in text
        assert "--index" not in text


def test_an_environment_is_made_once_and_again_when_its_lock_changes(tmp_path: Path) -> None:
    environment = checkout(tmp_path)
    assert not environment.is_current("embedded")
    environment.ensure("embedded", Silent())
    assert environment.is_current("embedded")
    assert not environment.is_current("dev")
    found = subprocess.run(
        [environment.python, "-c", "import sys; print(sys.path)"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert str(tmp_path) in found.stdout
    environment.lock_of("embedded").write_text("# changed\n")
    assert not environment.is_current("embedded")
    environment.ensure("dev", Silent())
    assert environment.is_current("embedded")


def test_a_package_that_pip_cannot_install_is_said_clearly(tmp_path: Path) -> None:
    environment = checkout(tmp_path)
    environment.lock_of("dev").write_text("nothing-without-a-hash==1\n")
    with pytest.raises(EmbeddedError, match=r"pip could not install dev\.txt"):
        environment.ensure("dev", Silent())
    assert not environment.is_current("dev")


def test_a_python_without_venv_is_said_clearly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = checkout(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EmbeddedError, match=r"apt-get install python3\.\d+-venv"):
        environment.ensure("dev", Silent())


def test_a_path_without_python_is_said_clearly() -> None:
    environ = {"PATH": "/nowhere"}
    done = subprocess.run(
        ["/bin/sh", "tools/embedded/venv.sh", "dev"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Python 3.11 or newer" in done.stderr


def _python(folder: Path, name: str, printed: int | str) -> None:
    """A Python that ranks itself so, and says its name instead of making an environment."""
    folder.mkdir(exist_ok=True)
    made = folder / name
    ranked = f'case "$1" in *rank.py) echo {printed}; exit;; esac'
    made.write_text(f'#!/bin/sh\n{ranked}\necho "{folder.name}/{name} $*"\n')
    made.chmod(0o755)


@pytest.mark.parametrize(
    ("ranks", "chosen"),
    [
        ({"a/python3": rank.USABLE, "b/python3": rank.OPTIMISED}, "b/python3"),
        ({"a/python3": rank.USABLE, "b/python3": rank.USABLE}, "a/python3"),
        ({"a/python3": rank.TOO_OLD, "b/python3.12": rank.USABLE}, "b/python3.12"),
        ({"a/python3": rank.WITHOUT_VENV, "b/python3.13": rank.USABLE}, "b/python3.13"),
        ({"a/python3": "no such file", "b/python3.11": rank.WITHOUT_VENV}, "b/python3.11"),
    ],
)
def test_of_the_pythons_on_the_path_the_quickest_is_taken(
    tmp_path: Path, ranks: dict[str, int | str], chosen: str
) -> None:
    for place, printed in ranks.items():
        folder, name = place.split("/")
        _python(tmp_path / folder, name, printed)
    path = f"{tmp_path}/a:{tmp_path}/b:/nowhere"
    assert _venv(PATH=path) == f"{chosen} -m tools.embedded.bootstrap dev\n"


def test_a_python_that_was_named_is_taken_before_a_quicker_one(tmp_path: Path) -> None:
    _python(tmp_path / "a", "python3", rank.OPTIMISED)
    _python(tmp_path / "b", "mine", rank.USABLE)
    said = _venv(PATH=f"{tmp_path}/a", PYTHON=f"{tmp_path}/b/mine")
    assert said.startswith("b/mine ")


def test_this_python_knows_its_rank() -> None:
    said = subprocess.check_output([sys.executable, ROOT / "tools/embedded/rank.py"])
    assert int(said) == (rank.OPTIMISED if rank.optimised() else rank.USABLE)


def _venv(**environ: str) -> str:
    return subprocess.run(
        ["/bin/sh", "tools/embedded/venv.sh", "dev"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_every_target_has_a_help_text() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ
    ).stdout
    assert len(targets) > 5
    assert all(f"make {target} " in shown for target in targets)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_a_step_in_a_log() -> None:
    out = io.StringIO()
    with Progress(out).step("Kafka") as step:
        step.note("ready")
    assert re.fullmatch(r" +\d+\.\d s  Kafka: ready\n", out.getvalue())


def test_progress_rewrites_its_line_on_a_terminal() -> None:
    out = Terminal()
    progress = Progress(out)
    with progress.step("Kafka") as step:
        step.note("fetching")
        while "fetching" not in out.getvalue():
            time.sleep(0.02)
        step.note("ready")
    assert out.getvalue().startswith("\r\x1b[K")
    assert out.getvalue().count("\n") == 1


def test_a_failed_step_is_shown() -> None:
    out = io.StringIO()
    with pytest.raises(EmbeddedError), Progress(out).step("Kafka"):
        raise EmbeddedError("no")
    assert "Kafka - failed" in out.getvalue()
