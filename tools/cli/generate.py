"""`muster generate`: files made from code, written or compared."""

from __future__ import annotations

import argparse
from importlib import import_module

from tools.cli.errors import CliError

# Imported when they are run: they need packages that only developers have.
_MADE = {
    "events": "tools.cli.generate_events",
    "openapi": "tools.cli.generate_openapi",
    "monitoring": "tools.monitoring.generate",
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("generate", help="make committed files from code (developers)")
    parser.add_argument("what", choices=_MADE)
    parser.add_argument("--check", action="store_true", help="only say what differs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    try:
        maker = import_module(_MADE[arguments.what])
    except ModuleNotFoundError as error:
        raise CliError(
            f"{error.name} is not installed: `make {arguments.what}` sees to it"
        ) from None
    status: int = maker.main(check=arguments.check)
    return status
