"""`muster run SERVICE`, `muster migrate SERVICE|all`: what containers and jobs call."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import uvloop

from shared.db.migrate import SchemaError, migrate
from shared.events.registry import SERVICES
from shared.runtime import logs
from shared.runtime.boot import run_service
from shared.runtime.listening import ListenerTaken
from shared.runtime.priority import give_way
from shared.runtime.service import ROLES, Role, Service
from shared.runtime.settings import ListenerName, Settings, SettingsError
from shared.runtime.supervisor import Supervisor
from tools.cli import place, services
from tools.cli.errors import CliError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("run", help="run one service as a process of its own")
    parser.add_argument("service", choices=[*SERVICES, *services.WORKERS], **services.NAMED)
    parser.add_argument(
        "--role", action="append", choices=ROLES, help="repeatable; none: all three"
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="N processes on the same addresses; probes and metrics of each from the internal "
        "port + 1 on",
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
    worker = arguments.service if arguments.service in services.WORKERS else None
    environ = place.environment_of(service.name, worker=worker)
    roles: Sequence[Role] = arguments.role or ROLES
    if service.jobs_only:
        roles = ["worker"]
    try:
        if arguments.processes > 1 and service.jobs_only:
            raise CliError("Start it several times: its processes share nothing but the database.")
        if arguments.processes > 1:
            asyncio.run(_several(service, roles, environ, arguments.processes))
        else:
            give_way(roles, service.settings.load(environ, service.name))
            uvloop.run(run_service(service, roles, environ))
    except (SettingsError, ListenerTaken) as error:
        raise CliError(str(error)) from None
    return 0


async def _several(
    service: Service[Any], roles: Sequence[Role], environ: Mapping[str, str], processes: int
) -> None:
    settings = service.settings.load(environ, service.name)
    logs.set_up(settings.log_level)
    listeners: list[ListenerName] = ["internal"]
    if "http" in roles:
        held = {route.listener for route in service.routes}
        listeners += [name for name in ("devices", "api") if name in held]
    command = [sys.executable, "-m", "tools.cli", "run", service.name]
    command += [word for role in roles for word in ("--role", role)]
    await Supervisor(service.name, command, environ, settings, listeners, processes).run()


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
