"""The list of serials: who is on it, who put them there, whole lists at once."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from services.enrollment.store import serials as store
from services.enrollment.store.serials import Listed
from shared.bus import outbox
from shared.db.pool import Connection, Pool, connected, transaction
from shared.events.base import uuid7
from shared.events.devices import SerialsListed
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.problems import Problem

WRITE = "enrollment.serial.write"
MAX_ROWS: Final = 20_000
"""Of one file."""
_SHOWN: Final = 100
"""Bad rows of a file that are named in the answer."""
_PART: Final = 1_000
"""Serials in one event and one audit row."""

Serial = Annotated[
    str, StringConstraints(strip_whitespace=True, to_upper=True, pattern=r"^[\x21-\x7e]{1,100}$")
]
Note = Annotated[str, StringConstraints(max_length=200, strip_whitespace=True)]


class Row(BaseModel):
    """One line of a file."""

    model_config = ConfigDict(extra="ignore")

    serial: Serial
    note: Note | None = None


class NewSerials(BaseModel):
    model_config = ConfigDict(extra="forbid")

    serials: list[Serial] = Field(min_length=1, max_length=_PART)
    note: Note | None = None


class OldSerials(BaseModel):
    model_config = ConfigDict(extra="forbid")

    serials: list[Serial] = Field(min_length=1, max_length=_PART)


@dataclass
class Read:
    """What a file holds: good rows, and the numbers of bad ones with the reason."""

    rows: dict[str, str | None] = field(default_factory=dict)
    bad: list[tuple[int, str]] = field(default_factory=list)
    refused: int = 0

    def refuse(self, row: int, why: str) -> None:
        self.refused += 1
        if len(self.bad) < _SHOWN:
            self.bad.append((row, why))


class Serials:
    """Changes and shows the list."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def page(self, after: str | None, beginning: str | None, limit: int) -> Sequence[Listed]:
        async with connected(self._pool) as connection:
            return await store.page(
                connection, after, beginning.upper() if beginning else None, limit
            )

    async def add(self, wanted: Iterable[tuple[str, str | None]], caller: Caller) -> int:
        """Put these on the list; returns how many were not on it before."""
        async with transaction(self._pool) as tx:
            added = await store.add(tx, list(wanted), caller.actor, self._clock.now())
            await _tell(tx, added, caller, listed=True)
        return len(added)

    async def remove(self, wanted: Sequence[str], caller: Caller) -> int:
        """Take these off; who has enrolled stays. Returns how many were on it."""
        async with transaction(self._pool) as tx:
            gone = await store.remove(tx, wanted)
            await _tell(tx, gone, caller, listed=False)
        return len(gone)


async def _tell(tx: Connection, serials: Sequence[str], caller: Caller, *, listed: bool) -> None:
    action = "serials.list" if listed else "serials.unlist"
    for start in range(0, len(serials), _PART):
        part = serials[start : start + _PART]
        change_id = uuid7()
        event = SerialsListed(
            change_id=change_id, listed=listed, serials=list(part), actor=caller.actor
        )
        await outbox.emit(tx, [event])
        values = {"serials": list(part)}
        before, after = (None, values) if listed else (values, None)
        target = f"serials:{change_id}"
        await auditing.record(tx, caller, WRITE, action, target, before=before, after=after)


def read_csv(data: bytes) -> Read:
    """A file with a heading that names `serial`, and perhaps `note`; or one serial a line."""
    reader = csv.reader(io.StringIO(_text(data), newline=""), strict=True)
    read = Read()
    names: list[str] | None = None
    try:
        for number, cells in enumerate(reader, 1):
            if number == 1 and "serial" in [cell.strip().lower() for cell in cells]:
                names = [cell.strip().lower() for cell in cells]
                continue
            if any(cell.strip() for cell in cells):
                _take(read, number, dict(zip(names or ("serial", "note"), cells, strict=False)))
    except csv.Error as error:
        raise Problem(422, "csv_unreadable", f"Line {reader.line_num}: {error}.") from None
    return read


def read_lines(data: bytes) -> Read:
    """JSON lines: an object with `serial`, and perhaps `note`, in each."""
    read = Read()
    for number, line in enumerate(_lines(data), 1):
        try:
            _take(read, number, orjson.loads(line))
        except orjson.JSONDecodeError:
            read.refuse(number, "no JSON")
    return read


_ROW: Final = TypeAdapter(Row)


def _take(read: Read, number: int, values: object) -> None:
    if len(read.rows) + read.refused >= MAX_ROWS:
        raise Problem(413, "too_many_rows", f"A file holds at most {MAX_ROWS:,} serials.")
    try:
        row = _ROW.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        read.refuse(number, f"{'.'.join(map(str, first['loc'])) or 'row'}: {first['msg']}")
        return
    read.rows.setdefault(row.serial, row.note or None)


def _lines(data: bytes) -> Iterator[str]:
    return (line for line in _text(data).splitlines() if line.strip())


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Problem(422, "text_unreadable", "Save the file as UTF-8.") from None
