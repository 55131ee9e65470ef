"""Secrets that are marked, and all the places where they must not be found again.

marked = Marked()
with everything_logged() as log, everything_traced() as spans:
    ...  # marked.text("password") goes to its route
assert marked.found_in(log.getvalue()) == []
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import generate_latest

from shared.bus import outbox
from shared.runtime import traces
from shared.runtime.logs import JsonFormatter
from shared.runtime.testing import Trial
from tools.embedded.postgres import find_binaries

_LONG = 32
TABLES = """
SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
"""


class Marked:
    """Secrets that nobody else would write, in every spelling in which they could leak."""

    def __init__(self) -> None:
        self._spellings: dict[str, set[str]] = {}

    def text(self, name: str) -> str:
        """A secret that is text by nature."""
        value = f"MARK{uuid4().hex}"
        self.know(name, value)
        return value

    def know(self, name: str, value: str | bytes) -> None:
        """Another spelling, or a secret made elsewhere; short ones would be found by chance."""
        assert len(value) >= 16, name
        data = value.encode() if isinstance(value, str) else value
        spelled = {data.hex(), base64.b64encode(data).decode().rstrip("=")[:-1]}
        spelled |= {base64.b64encode(b"x" * n + data).decode()[4:-4] for n in (1, 2)}
        if isinstance(value, str):
            spelled.add(value)
        self._spellings.setdefault(name, set()).update(spelled)

    def found_in(self, haystack: str) -> list[str]:
        lowered = haystack.lower()
        return [
            name
            for name, spellings in self._spellings.items()
            if any(one in haystack or one in lowered for one in spellings)
        ]


def mark_keys(marked: Marked, folder: Path) -> None:
    """All that only the services hold: what seals, signs and encrypts for themselves."""
    files = list(folder.rglob("*.key"))
    assert files
    for file in files:
        for line in file.read_text().splitlines():
            if len(line) >= _LONG and not line.startswith("-----"):
                marked.know("key of a service", line)


@contextmanager
def everything_logged() -> Iterator[io.StringIO]:
    """What a service would write to its log with every logger at DEBUG."""
    stream, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    logging.getLogger("attack").debug("canary")
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


async def everything_kept(service: Trial) -> str:
    """A backup in clear, as an operator makes it: bytea comes as hexadecimal digits."""
    dump = find_binaries().folder / "pg_dump"
    dumping = await asyncio.create_subprocess_exec(
        dump, "--dbname", service.context.settings.database_url, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await dumping.communicate()
    assert dumping.returncode == 0
    text = told.decode()
    async with service.context.pool.acquire() as connection:
        tables = [row[0] for row in await connection.fetch(TABLES)]
    assert tables
    copied = set(re.findall(r'^COPY \S+\."?(\w+)"? ', text, re.MULTILINE))
    assert copied >= set(tables)
    return text


async def everything_told(service: Trial) -> str:
    async with service.context.pool.acquire() as connection:
        events = await outbox.read(connection, service.running.name)
    assert events
    return "\n".join(event.model_dump_json() for event in events)


@contextmanager
def everything_traced() -> Iterator[Callable[[], str]]:
    """What a collector would be told; every request is recorded."""
    exporter = InMemorySpanExporter()
    traces.use(SimpleSpanProcessor(exporter))
    try:
        yield lambda: "\n".join(span.to_json() for span in exporter.get_finished_spans())
    finally:
        traces.shut_down()


def everything_measured() -> str:
    """What `/metrics` tells: label values are texts too."""
    return generate_latest().decode()


async def nowhere(marked: Marked, service: Trial, **places: str) -> None:
    """Nothing marked is in these places, in a table, in an event or in a measure."""
    places |= {
        "tables": await everything_kept(service),
        "events": await everything_told(service),
        "measures": everything_measured(),
    }
    found = {place: marked.found_in(text) for place, text in places.items()}
    assert not any(found.values()), found
