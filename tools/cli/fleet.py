"""Simulated devices beside a running Muster: `muster up --simulate N` and `muster simulate`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from tools.cli import place
from tools.cli.client import Client
from tools.cli.errors import CliError
from tools.cli.place import Addresses
from tools.embedded.home import Home

_STOP_SECONDS = 15.0
_PATIENCE = 20  # seconds
SIMULATOR = (sys.executable, "-m", "tools.simulator")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "simulate",
        help="enroll simulated devices into the running Muster",
        add_help=False,
        description="Addresses, trust and a credential are filled in; everything else goes on to "
        "the simulator: `muster simulate apple --help`.",
    )
    parser.add_argument("platform", choices=["apple"], nargs="?", metavar="apple")
    parser.add_argument("--devices", type=int, default=10, metavar="N", help="default 10")
    parser.add_argument("--help", "-h", action="store_true", help="the simulator's own help")
    parser.set_defaults(run=run, passes_on=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the simulator as a child, in the foreground."""
    if arguments.help:
        return subprocess.call([*SIMULATOR, "apple", "--help"], cwd=place.ROOT)
    if arguments.platform is None:
        raise CliError("say what to simulate: `muster simulate apple --devices 10`")
    command = [*SIMULATOR, arguments.platform, *_options(arguments.devices, arguments.rest)]
    child = subprocess.Popen(command, cwd=place.ROOT)
    while True:
        # Ctrl-C reaches the child too; it says what its devices met, and then ends.
        with contextlib.suppress(KeyboardInterrupt):
            return child.wait()


def _options(devices: int, rest: Sequence[str]) -> list[str]:
    options = ["--devices", str(devices), *rest]
    addresses = place.addresses()
    if not any(option.startswith("--enroll-url") for option in rest):
        options += ["--enroll-url", credential(Client(), devices)]
    if "--trust" not in rest:
        options += ["--trust", addresses.trust]
    if "--apns-stand-in" not in rest and addresses.apns:
        options += ["--apns-stand-in", addresses.apns]
    return options


def credential(client: Client, devices: int) -> str:
    """The address at which so many devices may enroll."""
    body = {"name": f"{devices} simulated devices", "max_uses": devices, "serials": "any"}
    return str(client.call("enrollment", "POST", "/credentials", body)["enroll_url"])


class Simulators:
    """The simulated fleet of `muster up --simulate N`: a child process with its own progress line.

    Its devices keep their keys and enrollments under `.muster/state/simulated`, so that the next
    start finds the same fleet; a larger N enrolls only the new ones.
    """

    def __init__(self, addresses: Addresses, home: Home, devices: int) -> None:
        self._addresses, self._home, self._devices = addresses, home, devices
        self._child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        client = Client()
        await self._until_pushes_work(client)
        enroll_url = await asyncio.to_thread(credential, client, self._devices)
        state = self._home.state / "simulated"
        command = [
            *SIMULATOR,
            "apple",
            *("--devices", str(self._devices)),
            *("--enroll-url", enroll_url),
            *("--trust", self._addresses.trust),
            *("--state", str(state)),
        ]
        if self._addresses.apns:
            command += ["--apns-stand-in", self._addresses.apns]
        # A session of its own: Ctrl-C must reach us first, and the fleet from us.
        self._child = await asyncio.create_subprocess_exec(
            *command,
            cwd=place.ROOT,
            env=dict(os.environ),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )

    async def _until_pushes_work(self, client: Client) -> None:
        """The first start gets its push certificate now; until enrollment has heard of it, devices
        are told to come again. Devices do, so that this needs no guarantee.
        """
        for _ in range(_PATIENCE):
            path = "/certificates"
            found = await asyncio.to_thread(client.call, "push_notifier", "GET", path)
            await asyncio.sleep(1)
            if found["items"]:
                return

    async def stop(self) -> None:
        """Let the fleet say what it met; kill it when it does not end."""
        child = self._child
        if child is None or child.returncode is not None:
            return
        child.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()
