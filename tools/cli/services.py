"""The services as the command line knows them: imported by name, when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from shared.events.registry import SERVICES
from shared.runtime.service import Service

NAMED: Mapping[str, Any] = {"metavar": "SERVICE", "help": ", ".join(SERVICES)}
"""How a service is asked for on the command line."""
NAMED_OR_ALL: Mapping[str, Any] = {"metavar": "SERVICE", "help": f"{', '.join(SERVICES)}, or all"}


WORKERS: Mapping[str, tuple[str, str]] = {
    "webhooks": ("services.console.webhook_worker", "WORKER"),
}
"""Processes of a service that have their own name, because they hold less than it does."""


def load(name: str) -> Service[Any]:
    """The `SERVICE` of `services/<name>/app.py`, or a worker with a name of its own."""
    if name in WORKERS:
        module, attribute = WORKERS[name]
        worker: Service[Any] = getattr(importlib.import_module(module), attribute)
        return worker
    service: Service[Any] = importlib.import_module(f"services.{name}.app").SERVICE
    return service


def load_all() -> Sequence[Service[Any]]:
    return [load(name) for name in SERVICES]
