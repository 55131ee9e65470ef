"""`muster simulate apple --devices N`: a simulated fleet against a running server."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tools.simulator import behaviour as behaviours
from tools.simulator.catalogue import KINDS
from tools.simulator.device import SimulatedDevice
from tools.simulator.fleet import Fleet, Habits
from tools.simulator.keys import KeyStore
from tools.simulator.memory import Memory
from tools.simulator.pushes import listen
from tools.simulator.report import Tally, as_json, final, show_progress
from tools.simulator.session import open_session
from tools.simulator.traits import DEFAULT_MIX
from tools.simulator.wire.envelope import ALGORITHMS
from tools.simulator.wire.scepclient import Options

_EXAMPLE = """example:
  muster simulate apple --devices 50 --trust .muster/state/tls/ca.pem \\
      --enroll-url https://localhost:8443/enroll/apple/TOKEN --apns-stand-in http://127.0.0.1:2198
"""
_POLL = 30.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run a fleet; 0 when every device enrolled, 1 when one could not, 2 for wrong arguments."""
    arguments = _parser().parse_args(argv)
    try:
        urls = _enroll_urls(arguments)
    except ValueError as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 2
    return asyncio.run(_run(arguments, urls))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="muster simulate", epilog=_EXAMPLE, formatter_class=argparse.RawTextHelpFormatter
    )
    fleet = parser.add_subparsers(required=True, metavar="PLATFORM").add_parser(
        "apple", help="iPhones, iPads and Macs", formatter_class=argparse.RawTextHelpFormatter
    )
    add = fleet.add_argument
    add("--devices", type=_positive, required=True, metavar="N", help="how many")
    where = fleet.add_mutually_exclusive_group(required=True)
    where.add_argument("--enroll-url", metavar="URL", help="a credential that N devices may use")
    where.add_argument("--enroll-urls", type=Path, metavar="FILE", help="one URL a line and device")
    add(
        "--apns-stand-in",
        metavar="URL",
        help=f"where pushes are heard; without it devices poll every {_POLL:.0f} seconds",
    )
    add("--trust", type=Path, metavar="CAFILE", help="the only roots trusted for TLS (PEM)")
    add("--allow-remote", action="store_true", help="speak to servers off this machine too")
    add("--seed", default="muster", help="equal seeds give equal devices (default: muster)")
    add("--first", type=int, default=0, metavar="INDEX", help="index of the first device")
    add("--state", type=Path, metavar="FOLDER", help="keep keys and enrollments for the next run")
    add(
        "--shared-keys", type=_positive, metavar="K", help="K keys for the whole fleet (load tests)"
    )
    add(
        "--kinds", type=_weights(KINDS), default=DEFAULT_MIX, metavar="KIND=WEIGHT,…", help=_kinds()
    )
    names = behaviours.NAMES
    add("--behaviours", type=_weights(names), default=behaviours.EVERYDAY, help=_behaviours())
    add("--concurrency", type=_positive, default=16, metavar="N", help="devices at work at once")
    add("--poll", type=float, metavar="SECONDS", help="connect this often without a push")
    add("--off-for", type=float, default=10.0, metavar="SECONDS", help="a restart takes this long")
    add("--user-channels", action="store_true", help="Macs open their user's channel too")
    add("--re-enroll", action="store_true", help="erased devices enroll again at the same URL")
    add("--cipher", choices=sorted(ALGORITHMS), help="SCEP: encrypt in this, whatever is offered")
    add("--scep-get", action="store_true", help="SCEP: send requests by GET")
    add("--duration", type=float, metavar="SECONDS", help="stop this long after enrolling")
    add("--json", action="store_true", help="print the final report as JSON")
    return parser


def _kinds() -> str:
    return "weights of the kinds (default: iphone=5,ipad=2,mac=3)"


def _behaviours() -> str:
    everyday = ",".join(f"{name}={weight}" for name, weight in behaviours.EVERYDAY.items())
    return f"weights of how devices behave\n(default: {everyday})"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


class _weights:  # noqa: N801 - used as a function: argparse names it in its errors
    """Parses `name=weight,name=weight` for known names; a name alone weighs 1."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __call__(self, text: str) -> dict[str, int]:
        weights: dict[str, int] = {}
        for part in text.split(","):
            name, _, weight = part.partition("=")
            if name not in self._names or not (weight or "1").isdigit():
                raise argparse.ArgumentTypeError(
                    f"{part!r}: expected NAME=WEIGHT with one of {', '.join(self._names)}"
                )
            weights[name] = int(weight or 1)
        if not sum(weights.values()):
            raise argparse.ArgumentTypeError("all weights are zero")
        return weights


def _enroll_urls(arguments: argparse.Namespace) -> list[str]:
    if arguments.enroll_url:
        return [arguments.enroll_url]
    try:
        lines = arguments.enroll_urls.read_text("utf-8").split()
    except OSError as error:
        raise ValueError(f"cannot read {arguments.enroll_urls}: {error.strerror}") from error
    if len(lines) < arguments.devices:
        raise ValueError(
            f"{arguments.enroll_urls} holds {len(lines)} URLs for {arguments.devices} devices"
        )
    return list(lines)


async def _run(arguments: argparse.Namespace, urls: list[str]) -> int:
    tally = Tally()
    folder = _folder(arguments)
    keys = KeyStore(folder / "keys" if folder else None, shared=arguments.shared_keys)
    devices = _devices(arguments, keys)
    async with open_session(
        arguments.trust,
        allow_remote=arguments.allow_remote,
        limit=arguments.concurrency * 2,
    ) as session:
        memory = Memory(folder / "devices") if folder else None
        fleet = Fleet(devices, urls, session, habits=_habits(arguments), tally=tally, memory=memory)
        background = [asyncio.create_task(show_progress(tally))]
        if arguments.apns_stand_in:
            pushes = listen(session, arguments.apns_stand_in, fleet.mailroom)
            background.append(asyncio.create_task(pushes))
        await _until_stopped(fleet, arguments.duration)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
    keys.close()
    if arguments.json:
        print(as_json(final(tally, devices)))
    return 1 if tally.not_enrolled else 0


def _folder(arguments: argparse.Namespace) -> Path | None:
    """Fleets of different seeds do not share their keys."""
    if arguments.state is None:
        return None
    name = hashlib.sha256(arguments.seed.encode()).hexdigest()[:12]
    return Path(arguments.state) / name


def _devices(arguments: argparse.Namespace, keys: KeyStore) -> list[SimulatedDevice]:
    method = "GET" if arguments.scep_get else None
    return [
        SimulatedDevice(
            arguments.seed,
            index,
            mix=arguments.kinds,
            keys=keys,
            scep_options=Options(cipher=arguments.cipher, method=method),
        )
        for index in range(arguments.first, arguments.first + arguments.devices)
    ]


def _habits(arguments: argparse.Namespace) -> Habits:
    return Habits(
        concurrency=arguments.concurrency,
        poll_every=arguments.poll or (None if arguments.apns_stand_in else _POLL),
        off_for=arguments.off_for,
        user_channels=arguments.user_channels,
        re_enroll=arguments.re_enroll,
        behaviours=arguments.behaviours,
    )


async def _until_stopped(fleet: Fleet, duration: float | None) -> None:
    """Enroll, then live until the time is over or somebody interrupts; both end in a report."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    life = asyncio.create_task(_life(fleet, duration))
    stopped = asyncio.create_task(stop.wait())
    done, pending = await asyncio.wait({life, stopped}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    if life in done:
        life.result()


async def _life(fleet: Fleet, duration: float | None) -> None:
    await fleet.enroll()
    with suppress(TimeoutError):
        async with asyncio.timeout(duration):
            await fleet.live()
            if fleet.tally.enrolled or fleet.tally.restored:
                await asyncio.Event().wait()
