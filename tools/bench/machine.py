"""What a reader must know of the machine before comparing two runs."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from tools.bench import instructions
from tools.embedded.cluster import REPOSITORY
from tools.embedded.errors import EmbeddedError
from tools.embedded.jars import KAFKA_VERSION
from tools.embedded.postgres import find_binaries
from tools.embedded.rank import optimised


def facts() -> dict[str, Any]:
    """Model and number of processors, versions, commit, and the load when this was called."""
    return {
        "cpu": _model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "python_optimised": optimised(),
        "postgresql": _postgresql(),
        "kafka": KAFKA_VERSION,
        "commit": _commit(),
        "load_average": round(os.getloadavg()[0], 2),
        "instructions": "counted" if instructions.offered() else "not offered by this machine",
    }


@cache
def _model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


@cache
def _postgresql() -> str:
    try:
        return _said([str(find_binaries().postgres), "--version"]).rpartition(") ")[2]
    except EmbeddedError:
        return "a server of your own"


@cache
def _commit() -> str:
    """The commit, with a plus when the tree differs from it."""
    commit = _said(["git", "-C", str(REPOSITORY), "rev-parse", "--short=12", "HEAD"])
    changed = _said(["git", "-C", str(REPOSITORY), "status", "--porcelain", "-uno"])
    return (commit or "unknown") + ("+" if changed else "")


def _said(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return ""
    return done.stdout.strip()
