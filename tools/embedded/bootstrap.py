"""Bring `.muster/venv` up to date: `python -m tools.embedded.bootstrap embedded|dev`.

Runs before anything is installed, so it imports the standard library only. Packages come from the
hashed lock file, and only when that has changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import sysconfig
from collections import deque
from pathlib import Path

from tools.embedded.errors import EmbeddedError
from tools.embedded.home import locked
from tools.embedded.progress import Progress, Step

ROOT = Path(__file__).resolve().parents[2]
# What a set holds, the larger ones hold too: whoever ran the tests need not install again to start.
SETS = ("embedded", "dev")
LAST_LINES = 25

LAUNCHER = """\
#!{python}
import sys

from tools.cli.main import main

sys.exit(main())
"""


class Environment:
    """The virtual environment of one checkout."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.folder = root / ".muster" / "venv"
        self.python = self.folder / "bin" / "python"
        self._stamp = self.folder / "installed.json"

    def lock_of(self, name: str) -> Path:
        return self.root / "requirements" / f"{name}.txt"

    def ensure(self, name: str, progress: Progress) -> None:
        """Make what is missing; does nothing when the lock file is the one last installed."""
        with locked(self.root / ".muster" / "run" / "venv.lock", wait=True):
            if self.is_current(name):
                return
            if not self._works():
                with progress.step("Python environment"):
                    self._create()
            with progress.step("Python packages") as step:
                self._install(name, step)
            self._make_importable()
            self._stamp.write_text(json.dumps(self._installed() | {name: self._digest(name)}))

    def is_current(self, name: str) -> bool:
        """Tell whether this set, or a larger one, is installed as its lock file says."""
        installed = self._installed() if self.python.exists() else {}
        larger = SETS[SETS.index(name) :]
        return any(installed.get(each) == self._digest(each) for each in larger)

    def _installed(self) -> dict[str, str]:
        try:
            installed: dict[str, str] = json.loads(self._stamp.read_text())
        except (OSError, ValueError):
            return {}
        return installed

    def _digest(self, name: str) -> str:
        return hashlib.sha256(self.lock_of(name).read_bytes()).hexdigest()

    def _works(self) -> bool:
        """A Python that was upgraded or removed leaves an environment that does not start."""
        check = [str(self.python), "-m", "pip", "--version"]
        try:
            return subprocess.run(check, capture_output=True, check=False).returncode == 0
        except OSError:
            return False

    def _create(self) -> None:
        missing = [name for name in ("venv", "ensurepip") if not importlib.util.find_spec(name)]
        if missing:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise EmbeddedError(
                f"{sys.executable} has no `{missing[0]}` module, which makes virtual "
                f"environments. On Debian and Ubuntu: `apt-get install python{version}-venv`; "
                "elsewhere install a complete Python, or name one: make PYTHON=/path/to/python3"
            )
        shutil.rmtree(self.folder, ignore_errors=True)
        done = subprocess.run(
            [sys.executable, "-m", "venv", self.folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise EmbeddedError(f"could not make {self.folder}:\n{done.stdout}")

    def _install(self, name: str, step: Step) -> None:
        lock = self.lock_of(name)
        total = sum("==" in line for line in lock.read_text("utf-8").splitlines())
        argv = [str(self.python), "-m", "pip", "install", "--no-input", "--require-hashes"]
        argv += ["--disable-pip-version-check", "--progress-bar=off", "-r", str(lock)]
        last: deque[str] = deque(maxlen=LAST_LINES)
        seen = 0
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as pip:
            for line in pip.stdout or ():
                last.append(line)
                if line.startswith(("Collecting ", "Requirement already satisfied: ")):
                    seen += 1
                    package = line.split(":")[-1].split()[-1].split("==")[0]
                    step.note(f"{min(seen, total)} of {total}, {package}")
                elif line.startswith("Installing "):
                    step.note(f"installing {total}")
        if pip.returncode:
            raise EmbeddedError(
                f"pip could not install {lock.name}; a second try goes on where this one stopped. "
                f"Its last words:\n{''.join(last)}"
            )
        step.note(f"{total} installed")

    def _make_importable(self) -> None:
        """An application run from its tree: the checkout itself is on the path, nothing copied."""
        paths = {"base": str(self.folder), "platbase": str(self.folder)}
        packages = Path(sysconfig.get_path("purelib", "venv", paths))
        (packages / "muster.pth").write_text(f"{self.root}\n", "utf-8")
        launcher = self.folder / "bin" / "muster"
        launcher.write_text(LAUNCHER.format(python=self.python), "utf-8")
        launcher.chmod(0o755)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in SETS:
        print(f"usage: python -m tools.embedded.bootstrap {'|'.join(SETS)}", file=sys.stderr)
        return 2
    try:
        Environment().ensure(arguments[0], Progress())
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
