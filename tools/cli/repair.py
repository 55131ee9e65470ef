"""`muster rebuild SERVICE` and `muster db new-epoch`: after a loss or a restore."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka.errors import KafkaError

from shared.bus import outbox
from shared.bus.rebuild import compacted_topics, rebuild
from shared.db.pool import open_pool, transaction
from shared.events.registry import SERVICES
from shared.runtime.running import kafka_of, opened
from shared.runtime.service import Service
from shared.runtime.settings import Settings
from tools.cli import place, services
from tools.cli.errors import CliError
from tools.cli.run import add_migrate


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    again = commands.add_parser(
        "rebuild", help="read a service's projections again from the compacted topics"
    )
    again.add_argument("service", choices=SERVICES, **services.NAMED)
    again.set_defaults(run=run_rebuild)
    database = commands.add_parser("db", help="schemas, and what a restore needs")
    actions = database.add_subparsers(required=True, metavar="ACTION")
    add_migrate(actions)
    epoch = actions.add_parser(
        "new-epoch", help="sequence numbers start above all that were ever given out"
    )
    epoch.add_argument(
        "service", choices=[*SERVICES, "all"], nargs="?", default="all", **services.NAMED_OR_ALL
    )
    epoch.set_defaults(run=run_new_epoch)


def run_new_epoch(arguments: argparse.Namespace) -> int:
    for name in SERVICES if arguments.service == "all" else [arguments.service]:
        settings = Settings.load(place.environment_of(name), name)
        print(f"{name}: epoch {asyncio.run(_new_epoch(settings.database_url))}")
    return 0


async def _new_epoch(dsn: str) -> int:
    pool = await open_pool(dsn, name="muster:cli", max_size=1)
    try:
        async with transaction(pool) as tx:
            return await outbox.new_epoch(tx)
    finally:
        await pool.close()


def run_rebuild(arguments: argparse.Namespace) -> int:
    service = services.load(arguments.service)
    environ = place.environment_of(arguments.service)
    try:
        asyncio.run(_rebuild(service, environ))
    except KafkaError as error:
        raise CliError(f"Kafka does not answer ({error!r}): does `make up` still run?") from None
    return 0


async def _rebuild(service: Service[Any], environ: Mapping[str, str]) -> None:
    """Beside the running service: row locks and sequence guards let both write."""
    async with opened(service, environ) as running:
        handlers = running.parts.handlers
        kafka = kafka_of(running.context.settings)
        read = await rebuild(service.name, kafka, running.context.pool, handlers)
        topics = ", ".join(compacted_topics(handlers))
    if not topics:
        raise CliError(f"{service.name} has no projection of a compacted topic")
    print(f"{service.name}: {read} events of {topics} were read again")
