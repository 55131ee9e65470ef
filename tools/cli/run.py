"""`muster run SERVICE`, `muster migrate SERVICE|all`: what containers and jobs call."""

from __future__ import annotations

import argparse
import asyncio
import os

import uvloop

from shared.db.migrate import SchemaError, migrate
from shared.events.registry import SERVICES
from shared.runtime.boot import run_service
from shared.runtime.service import ROLES
from shared.runtime.settings import Settings, SettingsError
from tools.cli import place, services
from tools.cli.errors import CliError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("run", help="run one service as a process of its own")
    parser.add_argument("service", choices=SERVICES, **services.NAMED)
    parser.add_argument(
        "--role", action="append", choices=ROLES, help="repeatable; none: all three"
    )
    parser.set_defaults(run=run)
    add_migrate(commands)


def add_migrate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Also as `muster db migrate`."""
    parser = commands.add_parser("migrate", help="bring the schema of a service up to this code")
    parser.add_argument("service", choices=[*SERVICES, "all"], **services.NAMED_OR_ALL)
    parser.add_argument("--phase", choices=["pre", "post", "all"], default="all")
    parser.set_defaults(run=run_migrate)


def run(arguments: argparse.Namespace) -> int:
    service = services.load(arguments.service)
    environ = place.environment_of(arguments.service)
    try:
        uvloop.run(run_service(service, arguments.role or ROLES, environ))
    except SettingsError as error:
        raise CliError(str(error)) from None
    return 0


def run_migrate(arguments: argparse.Namespace) -> int:
    names = SERVICES if arguments.service == "all" else [arguments.service]
    for name in names:
        settings = Settings.load(place.environment_of(name, os.environ), name)
        try:
            applied = asyncio.run(migrate(settings.database_url, name, arguments.phase))
        except SchemaError as error:
            raise CliError(str(error)) from None
        print(f"{name}: {', '.join(applied) or 'nothing to do'}")
    return 0
