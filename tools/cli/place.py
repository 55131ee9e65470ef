"""Where this checkout keeps its state, and what a running `muster up` tells other commands."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.cli.errors import CliError
from tools.embedded.home import Home, write_private

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Addresses:
    """What `muster up` serves, for the other commands."""

    api: str
    devices: str
    internal: str
    trust: str
    """The CA file behind the device listener's certificate."""
    apns: str | None
    """The stand-in's side port."""

    def save(self, home: Home) -> None:
        write_private(_file(home), json.dumps(asdict(self), indent=1) + "\n")


def home() -> Home:
    """`.muster` of this checkout, or the folder that MUSTER_HOME names."""
    return Home.at(Path(os.environ.get("MUSTER_HOME") or ROOT / ".muster"))


def addresses() -> Addresses:
    """Of the running `muster up`; raises CliError when there is none."""
    try:
        return Addresses(**json.loads(_file(home()).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CliError("Muster does not run from this checkout: start it with `make up`.") from None


def forget(at: Home) -> None:
    _file(at).unlink(missing_ok=True)


def service_environment(service: str, worker: str | None = None) -> dict[str, str]:
    """The settings that `muster up` left for one service, or a worker of it, for commands beside
    it.
    """
    path = home().secrets / f"{worker or service}.env"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise CliError(
            f"nothing is known of {service}'s database and broker: run `make up` once, or set "
            f"MUSTER_{service.upper()}_DATABASE_URL and MUSTER_{service.upper()}_KAFKA_BOOTSTRAP"
        ) from None
    return dict(line.split("=", 1) for line in lines if "=" in line)


def environment_of(
    service: str, environ: Mapping[str, str] = os.environ, *, worker: str | None = None
) -> dict[str, str]:
    """The process's own environment; where that says nothing, the embedded one's."""
    named = ("DATABASE_URL", f"{service.upper()}_DATABASE_URL")
    if any(f"MUSTER_{name}" in environ for name in named):
        return dict(environ)
    return {"MUSTER_KEYS_DIR": str(home().keys), **service_environment(service, worker), **environ}


def _file(at: Home) -> Path:
    return at.run / "up.json"
