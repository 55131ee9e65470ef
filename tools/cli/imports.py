"""`muster import`: take over the enrollments of another server, from a file of JSON lines."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import stat
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import orjson

from tools.cli.client import Client
from tools.cli.errors import CliError, Refused
from tools.cli.output import note, table
from tools.embedded.progress import Progress, Step

_EXAMPLES = """examples:
  muster import enrollments.jsonl --dry-run
  muster import enrollments.jsonl --report report.jsonl

Each line of the file is one enrollment, as JSON; docs/import.md says what it holds, and how to get
it from NanoMDM. What is there already stays as it is: after an interruption, run it again.
"""
MAX_ROWS = 500
_MAX_BYTES = 4 * 1024 * 1024
_LONGEST_LINE = 512 * 1024
"""Above what a row can hold: a certificate and two tokens of 64 KiB, in base64."""
_IN_FLIGHT = 2
"""One chunk is read and sealed by the service while the other is written."""
_BUSY = 503
_PATIENCE = 60.0
_PAUSE = 1.0
_BAR = 20
_LINES_NAMED = 5


@dataclass(frozen=True)
class Chunk:
    """Rows that go together, and the lines of the file they stand on."""

    lines: Sequence[int]
    rows: Sequence[Any]
    end: int
    """How many bytes of the file were read when it was full."""


@dataclass
class Tally:
    """What became of the file so far."""

    outcomes: Counter[str] = field(default_factory=Counter)
    refused: dict[str, list[int]] = field(default_factory=dict)
    warned: dict[str, list[int]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return self.outcomes.total()

    def add(self, line: int, row: Mapping[str, Any]) -> None:
        self.outcomes[row["outcome"]] += 1
        if row["outcome"] == "refused":
            self._note(self.refused, line, row)
        for warning in row["warnings"]:
            self._note(self.warned, line, warning)

    def _note(self, where: dict[str, list[int]], line: int, said: Mapping[str, Any]) -> None:
        where.setdefault(said["code"], []).append(line)
        self.details.setdefault(said["code"], said["detail"])


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "import",
        help="take over the enrollments of another server",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="JSON lines; - reads the standard input")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would happen, change nothing"
    )
    parser.add_argument("--report", metavar="OUT", help="what became of each line, as JSON lines")
    parser.add_argument(
        "--no-refresh",
        action="store_true",
        help="do not ask the devices for their inventory soon: the daily round comes to each",
    )
    parser.add_argument(
        "--chunk", type=int, default=MAX_ROWS, metavar="N", help="rows a call (500)"
    )
    parser.set_defaults(run=run_import)


def run_import(arguments: argparse.Namespace) -> int:
    """0: every line is there now; 1: some were refused, the table says why."""
    if not 1 <= arguments.chunk <= MAX_ROWS:
        raise CliError(f"--chunk lies between 1 and {MAX_ROWS}")
    options = {"dry_run": arguments.dry_run, "refresh": not arguments.no_refresh}
    with contextlib.ExitStack() as opened:
        source, size = _source(arguments.file, opened)
        report = _report(arguments.report, opened)
        title = f"{'try' if arguments.dry_run else 'import'} {arguments.file}"
        with Progress().step(title) as step:
            try:
                tally = _import(source, size, arguments.chunk, options, report, step)
            except CliError as error:
                raise CliError(f"{error}\nRun it again: what is there already stays.") from None
    _summarise(tally, dry_run=arguments.dry_run)
    return 1 if tally.refused else 0


def _source(name: str, opened: contextlib.ExitStack) -> tuple[BinaryIO, int | None]:
    """The file, and its size where that can be known."""
    if name == "-":
        return sys.stdin.buffer, None
    try:
        source = opened.enter_context(Path(name).open("rb"))  # noqa: SIM115 - the stack closes it
    except OSError as error:
        raise CliError(f"cannot read {name}: {error.strerror}") from None
    found = os.fstat(source.fileno())
    return source, found.st_size if stat.S_ISREG(found.st_mode) else None


def _report(name: str | None, opened: contextlib.ExitStack) -> TextIO | None:
    if name is None:
        return None
    try:
        return opened.enter_context(Path(name).open("w", encoding="utf-8"))
    except OSError as error:
        raise CliError(f"cannot write {name}: {error.strerror}") from None


def _import(
    source: BinaryIO,
    size: int | None,
    most: int,
    options: Mapping[str, bool],
    report: TextIO | None,
    step: Step,
) -> Tally:
    tally, began = Tally(), time.monotonic()
    for chunk, rows in _sent(chunks(source, most, tally, report), options):
        for line, row in zip(chunk.lines, rows, strict=True):
            tally.add(line, row)
            _write(report, line, row)
        step.note(progressed(tally, chunk.end, size, time.monotonic() - began))
    return tally


def chunks(
    source: BinaryIO, most: int, tally: Tally, report: TextIO | None = None
) -> Iterator[Chunk]:
    """Cut a file into chunks; a line that is no JSON is refused here and goes into none."""
    lines: list[int] = []
    rows: list[Any] = []
    read = held = 0
    for number, line in enumerate(_lines(source), start=1):
        read += len(line)
        if not line.strip():
            continue
        try:
            row = _row(line)
        except CliError as error:
            said = {"outcome": "refused", "code": "line_malformed", "detail": str(error)}
            tally.add(number, said | {"warnings": []})
            _write(report, number, said)
            continue
        if rows and (len(rows) == most or held + len(line) > _MAX_BYTES):
            yield Chunk(lines, rows, read - len(line))
            lines, rows, held = [], [], 0
        lines.append(number)
        rows.append(row)
        held += len(line)
    if rows:
        yield Chunk(lines, rows, read)


def _lines(source: BinaryIO) -> Iterator[bytes]:
    """Lines of bounded length: what is longer is cut short, and the rest of it dropped."""
    while line := source.readline(_LONGEST_LINE):
        yield line
        while len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            line = source.readline(_LONGEST_LINE)


def _row(line: bytes) -> Any:
    if len(line) == _LONGEST_LINE:
        raise CliError(f"a line holds at most {_LONGEST_LINE} bytes")
    try:
        return orjson.loads(line)
    except ValueError:
        # Never the line itself: it holds secrets.
        raise CliError("the line is not JSON") from None


def _sent(
    source: Iterable[Chunk], options: Mapping[str, bool]
) -> Iterator[tuple[Chunk, list[dict[str, Any]]]]:
    """Chunks with the service's words about their rows, in order, a few on their way at once."""
    waiting: deque[tuple[Chunk, Future[list[dict[str, Any]]]]] = deque()
    with ThreadPoolExecutor(_IN_FLIGHT) as pool:
        try:
            for chunk in source:
                waiting.append((chunk, pool.submit(_send, chunk, options)))
                if len(waiting) > _IN_FLIGHT:
                    first, told = waiting.popleft()
                    yield first, told.result()
            while waiting:
                first, told = waiting.popleft()
                yield first, told.result()
        finally:
            for _, told in waiting:
                told.cancel()


def _send(chunk: Chunk, options: Mapping[str, bool]) -> list[dict[str, Any]]:
    """One call; while the service is busy it is asked again."""
    body = {"rows": chunk.rows, **options}
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            # A client of its own: its token is good for two minutes, an import may take longer.
            answer = Client().call("enrollment", "POST", "/imports", body)
        except Refused as refused:
            if refused.status != _BUSY or time.monotonic() > deadline:
                raise CliError(f"lines {chunk.lines[0]} to {chunk.lines[-1]}: {refused}") from None
            time.sleep(_PAUSE)
        else:
            rows: list[dict[str, Any]] = answer["rows"]
            return rows


def progressed(tally: Tally, done: int, size: int | None, seconds: float) -> str:
    """`█████░░░░░  50 %, 12,000 rows, 30 refused, 40 s left`."""
    said = [f"{tally.rows:,} rows"]
    if tally.outcomes["refused"]:
        said.append(f"{tally.outcomes['refused']:,} refused")
    if not size:
        return ", ".join(said)
    share = min(1.0, done / size)
    bar = "█" * round(share * _BAR)
    said.insert(0, f"{bar.ljust(_BAR, '░')} {share:4.0%}")
    if 0 < share < 1:
        said.append(f"{seconds / share * (1 - share):.0f} s left")
    return ", ".join(said)


def _write(report: TextIO | None, line: int, row: Mapping[str, Any]) -> None:
    if report is not None:
        told = {name: value for name, value in row.items() if name != "row" and value}
        report.write(json.dumps({"line": line, **told}) + "\n")


def _summarise(tally: Tally, *, dry_run: bool) -> None:
    """Counts on the standard output; what is wrong, and on which lines."""
    rows: list[tuple[Any, ...]] = [
        (outcome, f"{tally.outcomes[outcome]:,}", None, None)
        for outcome in ("enrolled", "registered", "already_there")
        if tally.outcomes[outcome]
    ]
    for kind, found in (("refused", tally.refused), ("warning", tally.warned)):
        rows += [
            (f"{kind}: {code}", f"{len(lines):,}", tally.details[code], _some(lines))
            for code, lines in sorted(found.items(), key=lambda item: -len(item[1]))
        ]
    table(("outcome", "rows", "why", "lines"), rows, empty="The file holds no row.")
    if dry_run:
        note("Nothing was changed: this was a dry run.")


def _some(lines: Sequence[int]) -> str:
    named = ", ".join(str(line) for line in lines[:_LINES_NAMED])
    return f"{named}, …" if len(lines) > _LINES_NAMED else named
