"""Keyset paging: a page ends with a cursor that holds the sort key of its last row."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field

from shared.runtime.problems import Problem

T = TypeVar("T")
MAX_CURSOR = 1000


class Page(BaseModel):
    """The query of a list; filters are added by inheriting from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: Annotated[str, Field(max_length=MAX_CURSOR)] | None = None

    def after(self, length: int) -> list[Any] | None:
        """The sort key to go on after: `length` values, or None on the first page."""
        return None if self.cursor is None else decode_cursor(self.cursor, length)

    def after_id(self) -> UUID | None:
        """The id to go on after, of a list that is sorted by it alone."""
        key = self.after(1)
        try:
            return None if key is None else UUID(key[0])
        except (ValueError, TypeError, AttributeError):
            raise bad_cursor() from None


def encode_cursor(key: Sequence[Any]) -> str:
    """UUIDs (also those of asyncpg) and instants become text: the reader parses them back."""
    return base64.urlsafe_b64encode(orjson.dumps(list(key), default=str)).rstrip(b"=").decode()


def decode_cursor(cursor: str, length: int | None = None) -> list[Any]:
    """The values of a cursor of ours; anything else is refused as a bad request."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        key = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        key = None
    if not isinstance(key, list) or (length is not None and len(key) != length):
        raise bad_cursor()
    return key


def bad_cursor() -> Problem:
    """What a list answers to a cursor that is none of its own."""
    return Problem(400, "bad_cursor", "Start again without the cursor; this one is not ours.")


def page_of(
    rows: Sequence[T], limit: int, key: Callable[[T], Sequence[Any]]
) -> tuple[Sequence[T], str | None]:
    """Cut `limit + 1` fetched rows to a page and the cursor of the next, if there is one."""
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], encode_cursor(key(rows[limit - 1]))
