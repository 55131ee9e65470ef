"""JSON lines on standard output: one for each change of state, none for a poll."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

from shared.bus.context import correlation_id
from shared.db.errors import describe, is_transient, quotes_values
from shared.runtime import metrics
from shared.runtime.redaction import HIDDEN, redact, redact_text
from shared.runtime.traces import current_ids

SERVICE: ContextVar[str] = ContextVar("service", default="-")
"""Whose work this is: several services may share a process."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_QUIET_SECONDS = 30.0
_CLIENTS = ("aiokafka", "asyncpg")
"""Of servers that may be away: what they say of that needs no stack."""
_NOISY = (*_CLIENTS, "aiohttp", "asyncio", "opentelemetry")


class JsonFormatter(logging.Formatter):
    """One line of JSON a record, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": SERVICE.get(),
            "logger": record.name,
            "message": redact_text(record.getMessage()),
        }
        if correlation := correlation_id.get():
            line["correlation_id"] = correlation
        line.update(current_ids())
        extra = {k: v for k, v in record.__dict__.items() if k not in _STANDARD}
        line.update(redact(extra))
        if record.exc_info:
            error = record.exc_info[1]
            if error is not None and _is_of(record, _CLIENTS) and is_transient(error):
                line["error"] = redact_text(describe(error))
            else:
                line["trace"] = redact_text(self.formatException(record.exc_info))
        return orjson.dumps(line, default=str).decode()

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's
        """As usual, but for messages that repeat values: those may be secret."""
        lines = super().formatException(ei).split("\n")
        for error in _all_of(ei[1]):
            if quotes_values(error):
                lines = [_without(line, str(error).split("\n"), describe(error)) for line in lines]
        return "\n".join(lines)


def _without(line: str, said: Sequence[str], named: str) -> str:
    """`line` of a trace, unless it is one of what the error said; its first follows the type."""
    if said[0] and line.endswith(f": {said[0]}"):
        return line.removesuffix(said[0]) + named
    bare = line.lstrip(" |")
    return "…" if bare and bare in {one.strip() for one in said[1:]} else line


def _all_of(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that it tells of as well."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__]
            waiting += one.exceptions if isinstance(one, BaseExceptionGroup) else ()


class RateLimit(logging.Filter):
    """Lets one line of a kind through each half minute: a broker that is away is said once."""

    def __init__(self, seconds: float = _QUIET_SECONDS) -> None:
        super().__init__()
        self._seconds = seconds
        self._last: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = (record.name, record.levelno, str(record.msg))
        now = time.monotonic()
        at, suppressed = self._last.get(kind, (-self._seconds, 0))
        if now - at < self._seconds:
            self._last[kind] = (at, suppressed + 1)
            metrics.LOGS_SUPPRESSED.labels(record.name.partition(".")[0]).inc()
            return False
        if len(self._last) > 1000:  # noqa: PLR2004 (a bound on memory, not a number with a meaning)
            self._last.clear()
        self._last[kind] = (now, 0)
        if suppressed:
            record.suppressed = suppressed
        return True


def _is_of(record: logging.LogRecord, libraries: Sequence[str]) -> bool:
    return record.name.partition(".")[0] in libraries


class _Noisy(logging.Filter):
    """Applies the rate limit to the libraries that repeat themselves."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = RateLimit()

    def filter(self, record: logging.LogRecord) -> bool:
        return not _is_of(record, _NOISY) or self._limit.filter(record)


class _Lines(logging.StreamHandler[TextIO]):
    """Counts what cannot be written: a full disk must not fill the terminal with stack traces."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's
        metrics.LOGS_LOST.inc()


def set_up(level: str, stream: TextIO | None = None) -> None:
    """Make every logger of the process write JSON lines to `stream`."""
    handler = _Lines(stream or sys.stdout)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_Noisy())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("aiokafka").setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.captureWarnings(capture=True)


__all__ = ["HIDDEN", "SERVICE", "JsonFormatter", "RateLimit", "set_up"]
