"""`muster generate`: files made from code, written or compared."""

from __future__ import annotations

import argparse

from tools.cli import generate_events, generate_openapi
from tools.monitoring import generate as generate_monitoring

_MADE = {
    "events": generate_events.main,
    "openapi": generate_openapi.main,
    "monitoring": generate_monitoring.main,
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("generate", help="make committed files from code (developers)")
    parser.add_argument("what", choices=_MADE)
    parser.add_argument("--check", action="store_true", help="only say what differs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    return _MADE[arguments.what](check=arguments.check)
