"""No secret reaches a log line, and no library floods the log."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import Any

import asyncpg
import pytest
from pydantic import BaseModel, ValidationError

from shared.runtime.logs import SERVICE, JsonFormatter, RateLimit
from shared.runtime.redaction import redact, redact_text

MARK = "s3cr3t-mark-0123456789"
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlLW1hcms"


def _line(record: logging.LogRecord) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(JsonFormatter().format(record))
    return line


def _record(message: str, **extra: Any) -> logging.LogRecord:
    record = logging.LogRecord("muster.test", logging.INFO, __file__, 1, message, (), None)
    record.__dict__.update(extra)
    return record


def test_a_line_says_who_and_what() -> None:
    SERVICE.set("inventory")
    line = _line(_record("Began", device_id="d-1", rows=3))
    assert line["service"] == "inventory"
    assert (line["message"], line["device_id"], line["rows"]) == ("Began", "d-1", 3)
    assert line["level"] == "info"


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "kafka_password",
        "push_token",
        "Authorization",
        "unlock_token",
        "pin",
        "device_pin",
        "client_secret",
        "recovery_key",
        "challenge",
        "push_magic",
        "Set-Cookie",
        "private_key",
    ],
)
def test_fields_with_such_names_are_hidden(name: str) -> None:
    text = json.dumps(_line(_record("x", **{name: MARK, "nested": {"deep": [{name: MARK}]}})))
    assert MARK not in text


@pytest.mark.parametrize("name", ["pinned", "shipping", "opinion", "tokens_refused"])
def test_words_that_only_look_alike_stay_or_hide_without_harm(name: str) -> None:
    assert redact({name: 5})[name] in {5, "***"}


@pytest.mark.parametrize(
    "text",
    [
        f"Bearer {MARK}",
        f"postgresql://muster_inventory:{MARK}@127.0.0.1/muster",
        f"GET /scep/{MARK}/pkiclient.exe",
        f"GET /enroll/apple/{MARK}?unsigned=1",
        f"-----BEGIN PRIVATE KEY-----\n{MARK}\n-----END PRIVATE KEY-----",
        f"password={MARK}",
        f'{{"token": "{MARK}"}}',
        f"mst_{MARK}",
    ],
)
def test_texts_that_look_secret_are_hidden(text: str) -> None:
    assert MARK not in redact_text(text)
    assert MARK not in json.dumps(_line(_record(text, note=text)))


class _Unlucky(json.JSONDecoder):
    def decode(self, s: str, _w: Any = None) -> Any:
        raise RuntimeError(s)


def test_a_token_in_a_traceback_is_hidden() -> None:
    record = _record("It failed")
    try:
        json.loads(f"no luck with {JWT}", cls=_Unlucky)
    except RuntimeError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    line = _line(record)
    assert "RuntimeError: no luck with ***" in line["trace"]
    assert "c2lnbmF0dXJl" not in json.dumps(line)


def test_bytes_and_depth_are_bounded() -> None:
    deep: Any = MARK
    for _ in range(20):
        deep = {"inner": deep}
    assert MARK not in json.dumps(redact(deep))
    assert redact({"blob": b"abc"}) == {"blob": "<3 bytes>"}


def test_a_repeated_line_passes_once_and_is_counted() -> None:
    limit, out = RateLimit(seconds=3600), io.StringIO()
    logger = logging.getLogger("aiokafka.cluster")
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(limit)
    logger.addHandler(handler)
    try:
        for attempt in range(50):
            logger.error("No broker at %s", attempt)
        logger.error("Another thing")
    finally:
        logger.removeHandler(handler)
    assert len(out.getvalue().splitlines()) == 2


def test_after_the_pause_it_says_how_many_were_left_out() -> None:
    limit = RateLimit(seconds=0)
    limit._last["aiokafka", logging.INFO, "x"] = (-1.0, 7)
    record = logging.LogRecord("aiokafka", logging.INFO, "f", 1, "x", (), None)
    assert limit.filter(record)
    assert _line(record)["suppressed"] == 7


@pytest.mark.parametrize(
    ("logger", "error", "short"),
    [
        ("asyncpg.pool", ConnectionRefusedError(111, "refused"), True),
        ("asyncpg.pool", KeyError("a fault"), False),
        ("asyncio", ConnectionRefusedError(111, "nobody fetched it"), False),
        ("shared.bus.runner", ConnectionRefusedError(111, "refused"), False),
    ],
)
def test_that_a_server_is_away_is_told_by_its_client_without_a_stack(
    logger: str, error: Exception, short: bool
) -> None:
    record = logging.LogRecord(logger, logging.WARNING, "f", 1, "x", (), None)
    try:
        raise error
    except type(error):
        record.exc_info = sys.exc_info()
    line = _line(record)
    assert ("trace" not in line) is short
    assert ("ConnectionRefusedError" in line.get("error", "")) is short


def test_errors_that_quote_values_are_named_without_them() -> None:
    """PostgreSQL and pydantic repeat what they were given, also where another error tells of it."""

    class Form(BaseModel):
        password: int

    told = []
    refused = asyncpg.UniqueViolationError(f'duplicate key "{MARK}"')
    refused.detail = f"Key (token)=({MARK}) already exists."
    for group in (False, True):
        try:
            try:
                Form.model_validate({"password": MARK})
            except ValidationError as error:
                raise ExceptionGroup("all", [refused, error]) if group else refused from error
        except Exception:  # noqa: BLE001
            record = _record("A request failed")
            record.exc_info = sys.exc_info()
            told.append(_line(record)["trace"])
    for trace in told:
        assert MARK not in trace
        assert "UniqueViolationError 23505" in trace
        assert "ValidationError" in trace
        assert "test_logs.py" in trace
