"""`muster rebuild SERVICE` and `muster db new-epoch`: after a loss or a restore."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.bus import Handlers, Poison, apply, envelope, outbox
from shared.bus.kafka import stop
from shared.db.pool import open_pool, transaction
from shared.events.registry import SERVICES, TOPICS, topics_read
from shared.runtime.running import Running, kafka_of, opened
from shared.runtime.settings import Settings
from tools.cli import place, services
from tools.cli.errors import CliError

_BATCH = 500


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    rebuild = commands.add_parser(
        "rebuild", help="read a service's projections again from the compacted topics"
    )
    rebuild.add_argument("service", choices=SERVICES)
    rebuild.set_defaults(run=run_rebuild)
    database = commands.add_parser("db", help="after a restore")
    actions = database.add_subparsers(required=True, metavar="ACTION")
    epoch = actions.add_parser(
        "new-epoch", help="sequence numbers start above all that were ever given out"
    )
    epoch.add_argument("service", choices=[*SERVICES, "all"], nargs="?", default="all")
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


async def _rebuild(service: Any, environ: Mapping[str, str]) -> None:
    """Beside the running service: row locks and sequence guards let both write."""
    async with opened(service, environ) as running:
        handlers = _compacted(running.parts.handlers)
        if not handlers:
            raise CliError(f"{service.name} has no projection of a compacted topic")
        topics = [t for t in topics_read(set(handlers)) if TOPICS[t].compacted]
        consumer = kafka_of(running.context.settings).consumer(None, topics)
        await consumer.start()
        try:
            read = await _replay(consumer, running, handlers)
        finally:
            await stop(consumer)
    print(f"{service.name}: {read} events of {', '.join(topics)} read again")


def _compacted(handlers: Handlers) -> Handlers:
    return {
        model: handler
        for model, handler in handlers.items()
        if model.TOPIC in TOPICS and TOPICS[model.TOPIC].compacted
    }


async def _replay(consumer: AIOKafkaConsumer, running: Running, handlers: Handlers) -> int:
    """Apply everything up to what the topics hold now; the number of events."""
    await consumer.seek_to_beginning()
    ends = await consumer.end_offsets(list(consumer.assignment()))
    read = 0
    while await _behind(consumer, ends):
        for batch in (await consumer.getmany(timeout_ms=1000, max_records=_BATCH)).values():
            events = []
            for record in batch:
                try:
                    events.append(envelope.decode(record.headers, record.value))
                except Poison as poison:
                    print(f"left out {record.topic} {record.partition}/{record.offset}: {poison}")
            await apply(running.context.pool, running.name, handlers, events)
            read += len(events)
    return read


async def _behind(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    for partition, end in ends.items():
        if await consumer.position(partition) < end:
            return True
    return False
