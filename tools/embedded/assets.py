"""`make assets`: what the console's pages need of npm, by the lock file's hashes, without scripts.

Made anew only when the lock file or a list beside it changed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.embedded.errors import EmbeddedError
from tools.embedded.home import Home
from tools.embedded.node import find_npm

SOURCE = Path(__file__).resolve().parent.parent.parent / "services" / "console" / "assets"
_OUTLINE = "@tabler/icons/icons/outline"
_STROKES = (
    'viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" '
    'stroke-linecap="round" stroke-linejoin="round"'
)
_NPM_SECONDS = 600
_CI = ("ci", "--ignore-scripts", "--no-audit", "--no-fund")


def folder(home: Home) -> Path:
    """Where they lie: MUSTER_CONSOLE_ASSETS_DIR."""
    return home.root / "assets" / "vendor"


def axe(home: Home) -> Path:
    """The accessibility checker of the tests; it is never served."""
    return folder(home).parent / "axe.min.js"


def is_stale(home: Home) -> bool:
    stamp = folder(home).parent / "stamp"
    return not stamp.exists() or stamp.read_text(encoding="utf-8") != _wanted()


def ensure(home: Home) -> None:
    """Install and arrange them if they are not there, or not these."""
    if not is_stale(home):
        return
    made = folder(home)
    work = made.parent / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(SOURCE, work)
    _install(work)
    fresh = work / "vendor"
    for source, name in _files():
        (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(work / "node_modules" / source, fresh / name)
    (fresh / "icons.svg").write_text(_sprite(work / "node_modules" / _OUTLINE), encoding="utf-8")
    shutil.copyfile(work / "node_modules" / "axe-core" / "axe.min.js", axe(home))
    shutil.rmtree(made, ignore_errors=True)
    fresh.rename(made)
    shutil.rmtree(work)
    (made.parent / "stamp").write_text(_wanted(), encoding="utf-8")


def _install(work: Path) -> None:
    command = [*find_npm(), *_CI]
    try:
        done = subprocess.run(
            command, cwd=work, capture_output=True, text=True, check=False, timeout=_NPM_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise EmbeddedError("npm did not end in ten minutes: is its registry reachable?") from None
    if done.returncode:
        raise EmbeddedError(f"npm could not install the console's assets:\n{done.stderr.strip()}")


def _files() -> Iterator[tuple[str, str]]:
    for line in _lines("files.txt"):
        source, _, name = line.partition(" ")
        yield source, name


def _sprite(icons: Path) -> str:
    """One file of symbols: a page names one by its fragment."""
    symbols = "".join(_symbol(name, icons / f"{name}.svg") for name in _lines("icons.txt"))
    return f'<svg xmlns="http://www.w3.org/2000/svg">{symbols}</svg>\n'


def _symbol(name: str, path: Path) -> str:
    drawn = re.search(r"<svg[^>]*>(.*)</svg>", path.read_text(encoding="utf-8"), re.DOTALL)
    if drawn is None:
        raise EmbeddedError(f"{path.name} is no icon as expected")
    return f'<symbol id="{name}" {_STROKES}>{" ".join(drawn[1].split())}</symbol>'


def _lines(name: str) -> list[str]:
    lines = (SOURCE / name).read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _wanted() -> str:
    """A digest of all that the result depends on."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(path for path in SOURCE.iterdir() if path.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    try:
        ensure(Home.at(Path.cwd() / ".muster"))
    except EmbeddedError as error:
        sys.exit(str(error))
