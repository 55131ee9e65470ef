"""The addresses that `muster up` gives to its services fit each other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from services.command_queue.settings import CommandQueueSettings
from services.console.settings import ConsoleSettings
from tools.cli.up import Supervisor
from tools.embedded.home import Home


def test_keys_answer_for_the_address_that_people_open(tmp_path: Path) -> None:
    """A key approves for the origin that its browser is at; command_queue compares it."""
    running: Any = SimpleNamespace(services={}, environment=dict)
    environ = Supervisor(Home.at(tmp_path))._environ(running, None)
    opened = ConsoleSettings.load(environ).address
    assert opened.startswith("http://localhost:")
    assert CommandQueueSettings.load(environ).console_address == opened
