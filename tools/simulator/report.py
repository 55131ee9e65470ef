"""What a fleet met: counted while it runs, shown as a line, ended as one JSON document."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TextIO

from tools.simulator.device import SimulatedDevice

_LISTED_REPEATS = 1000
_REFRESH, _LINE_EVERY = 0.5, 5.0


@dataclass(slots=True)
class Tally:
    """Counters of one run."""

    devices: int = 0
    enrolled: int = 0
    restored: int = 0
    """Devices that were enrolled by an earlier run and went on."""
    not_enrolled: list[dict[str, Any]] = field(default_factory=list)
    ended: int = 0
    """Enrollments that ended: erased, removed, or refused by the server."""
    connections: int = 0
    lost: int = 0
    """Connections that broke, or could not be made."""
    refusals: Counter[int] = field(default_factory=Counter)
    """HTTP statuses other than success, met on connect."""
    commands: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    pushes: Counter[str] = field(default_factory=Counter)
    """`delivered`, or why a push woke nobody: `unknown token`, `wrong magic`, `wrong topic`."""

    def line(self) -> str:
        parts = [
            f"{self.enrolled + self.restored}/{self.devices} enrolled",
            f"{self.commands.total()} commands",
            f"{self.answers.total()} answers",
            f"{self.answers['NotNow']} not now",
            f"{self.repeats} repeats",
            f"{self.pushes['delivered']} pushes",
        ]
        if self.not_enrolled:
            parts.append(f"{len(self.not_enrolled)} could not enroll")
        if troubles := self.lost + self.refusals.total() + self.failures.total():
            parts.append(f"{troubles} troubles")
        return " · ".join(parts)


def final(tally: Tally, devices: Iterable[SimulatedDevice]) -> dict[str, Any]:
    """The whole report, every needlessly repeated command listed (the first 1,000 of them)."""
    complaints: Counter[str] = Counter()
    repeats: list[dict[str, Any]] = []
    for device in devices:
        complaints.update(device.complaints)
        repeats += [
            {
                "udid": device.udid,
                "command_uuid": receipt.uuid,
                "request_type": receipt.request_type,
                "times": receipt.times,
                "repeats": receipt.repeats,
            }
            for receipt in device.receipts.repeated
        ]
    return {
        "devices": tally.devices,
        "enrolled": tally.enrolled,
        "restored": tally.restored,
        "not_enrolled": tally.not_enrolled,
        "ended": tally.ended,
        "connections": tally.connections,
        "lost_connections": tally.lost,
        "refused_connections": {str(status): count for status, count in tally.refusals.items()},
        "commands": dict(tally.commands),
        "answers": dict(tally.answers),
        "not_now": tally.answers["NotNow"],
        "repeated_commands": len(repeats),
        "repeats": repeats[:_LISTED_REPEATS],
        "failures": dict(tally.failures),
        "pushes": dict(tally.pushes),
        "complaints": dict(complaints),
    }


async def show_progress(tally: Tally, out: TextIO = sys.stderr) -> None:
    """Keep a progress line fresh until cancelled: in place on a terminal, else now and then."""
    live, shown, next_line = out.isatty(), "", time.monotonic()
    try:
        while True:
            line = tally.line()
            if live and line != shown:
                print(f"\r\033[K{line}", end="", file=out, flush=True)
            elif not live and line != shown and time.monotonic() >= next_line:
                print(line, file=out, flush=True)
                next_line = time.monotonic() + _LINE_EVERY
            else:
                line = shown
            shown = line
            await asyncio.sleep(_REFRESH)
    finally:
        print(f"\r\033[K{tally.line()}" if live else tally.line(), file=out, flush=True)


def as_json(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False)
