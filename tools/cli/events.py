"""`muster events tail`: what the services tell each other, as it happens."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError

from shared.bus import Poison, envelope
from shared.bus.kafka import start, stop
from shared.events import Event
from shared.events.registry import TOPICS
from shared.runtime.redaction import redact
from shared.runtime.running import kafka_of
from shared.runtime.settings import Settings
from tools.cli import place
from tools.cli.client import Client
from tools.cli.devices import resolve
from tools.cli.errors import CliError
from tools.cli.output import note, text

_QUIET = ("muster.dead-letter.", "muster.audit.", "muster.audit-root.")
_WAIT_MS = 500


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("events", help="watch events")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    tail = actions.add_parser("tail", help="print events as they come, until Ctrl-C")
    tail.add_argument(
        "--topic", action="append", metavar="TOPIC", help="repeatable; part of a name"
    )
    tail.add_argument("--device", metavar="DEVICE", help="id, serial or name")
    tail.add_argument(
        "--from-start", action="store_true", help="what the broker still keeps, first"
    )
    tail.add_argument("--count", type=int, metavar="N", help="end after so many")
    tail.add_argument("--json", action="store_true", help="one JSON object a line, with envelope")
    tail.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    device = resolve(Client(), arguments.device) if arguments.device else None
    topics = chosen(arguments.topic)
    try:
        asyncio.run(_tail(topics, device, arguments))
    except KafkaError as error:
        raise CliError(f"Kafka does not answer ({error!r}): does `make up` still run?") from None
    return 0


def chosen(wanted: Sequence[str] | None) -> list[str]:
    """The topics whose names hold a word; without words all but audits and dead letters."""
    if not wanted:
        return [name for name in TOPICS if not name.startswith(_QUIET)]
    found = [name for name in TOPICS if any(word in name for word in wanted)]
    if not found:
        raise CliError(f"no topic is called {', '.join(wanted)}: see docs/events.md")
    return found


async def _tail(topics: Sequence[str], device: str | None, arguments: argparse.Namespace) -> None:
    settings = Settings.load(place.environment_of("console"), "console")
    consumer = kafka_of(settings).consumer(None, topics)
    await start(consumer)
    try:
        if not arguments.from_start:
            await consumer.seek_to_end()
        note(f"Watching {len(topics)} topics; Ctrl-C ends.")
        left = arguments.count
        while left is None or left > 0:
            for record in await _next(consumer):
                line = _line(record, device, as_json=arguments.json)
                if line is not None and left != 0:
                    print(line, flush=True)
                    left = None if left is None else left - 1
    finally:
        await stop(consumer)


async def _next(consumer: AIOKafkaConsumer) -> list[ConsumerRecord[bytes, bytes]]:
    batches = await consumer.getmany(timeout_ms=_WAIT_MS)
    records = [record for batch in batches.values() for record in batch]
    return sorted(records, key=lambda record: record.timestamp)


def _line(record: ConsumerRecord[bytes, bytes], device: str | None, *, as_json: bool) -> str | None:
    """One event as one line; None when it is not about the device."""
    try:
        event = envelope.decode(record.headers, record.value)
    except Poison as poison:
        return f"{record.topic} {record.partition}/{record.offset}: unreadable: {text(str(poison))}"
    if device is not None and device != str(event.device):
        return None
    if as_json:
        return json.dumps(
            {
                "topic": record.topic,
                "type": event.TYPE,
                "subject": event.subject,
                **event.meta.model_dump(mode="json"),
                "data": redact(event.payload(), depth=12),
            }
        )
    return _readable(event)


def _readable(event: Event) -> str:
    at = event.meta.time.astimezone().strftime("%H:%M:%S")
    kind = event.TYPE.removeprefix("muster.").rpartition(".v")[0]
    shown = {
        name: value
        for name, value in redact(event.payload(), depth=3).items()
        if value not in (None, [], {}, "") and str(value) != event.subject
    }
    return f"{at}  {kind:<32}  {event.subject}  {_brief(shown)}"


def _brief(values: dict[str, Any], longest: int = 160) -> str:
    brief = " ".join(f"{name}={text(value)}" for name, value in values.items())
    return brief if len(brief) <= longest else brief[: longest - 1] + "…"
