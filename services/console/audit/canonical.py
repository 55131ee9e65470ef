"""What is hashed and signed, to the byte (decision 54). Whoever verifies needs nothing but this.

Everything is the SHA-256 of a JSON array of strings, whole numbers and null, written as RFC 8785
says: no spaces, UTF-8, only what must be escaped is. The first string names the form. Hashes are
lower-case hex, instants `2026-03-01T09:05:00.000000Z`; `before` and `after` are strings too: the
JSON text as it was kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

NOTHING: Final = bytes(32).hex()
"""The hash before the first link of a chain and before the first root."""
_LINK: Final = "muster.audit.link.v1"
_CONTENT: Final = "muster.audit.content.v1"
_HEADS: Final = "muster.audit.heads.v1"
_ROOT: Final = "muster.audit.root.v1"
Key = tuple[str, int]
"""A chain: topic and partition."""


@dataclass(frozen=True)
class Content:
    """What may be erased, beside what nobody guesses: who, to whom, from where, and the values."""

    salt: str
    audit_id: str
    actor: str
    target: str
    before: str | None
    after: str | None
    reason: str | None
    source: str | None
    via: str | None
    correlation_id: str | None

    @property
    def hash(self) -> str:
        return _hash(_CONTENT, *vars(self).values())


@dataclass(frozen=True)
class Link:
    """What stays of an entry whatever becomes of its content."""

    topic: str
    partition: int
    position: int
    """1 for the first of its chain, and no number is left out."""
    offset: int
    """Kafka's: numbers are left out where the broker keeps marks of its own."""
    previous: str
    recorded_at: str
    event_id: str
    occurred_at: str
    action: str
    permission: str
    content: str

    @property
    def key(self) -> Key:
        return self.topic, self.partition

    @property
    def hash(self) -> str:
        return _hash(_LINK, *vars(self).values())


@dataclass(frozen=True)
class Head:
    """The last link of a chain, and from which one on the chain is kept."""

    topic: str
    partition: int
    first: int
    position: int
    hash: str

    @property
    def key(self) -> Key:
        return self.topic, self.partition


@dataclass(frozen=True)
class Root:
    """One statement about all chains; `heads` is the hash of `heads_hash`, and `previous` that of
    the root before. `links` is the sum of their positions.
    """

    number: int
    signed_at: str
    previous: str
    heads: str
    chains: int
    links: int
    key_id: str

    @property
    def statement(self) -> bytes:
        """What is signed."""
        return _bytes(_ROOT, *vars(self).values())

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.statement).hexdigest()

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Root:
        """From what may hold more; raises KeyError, TypeError and ValueError."""
        return cls(
            number=int(values["number"]),
            signed_at=str(values["signed_at"]),
            previous=str(values["previous"]),
            heads=str(values["heads"]),
            chains=int(values["chains"]),
            links=int(values["links"]),
            key_id=str(values["key_id"]),
        )


def heads_hash(heads: Iterable[Head]) -> str:
    """Of all chains that have a link, by topic and partition."""
    ordered = sorted(heads, key=lambda head: head.key)
    return _hash(_HEADS, *(value for head in ordered for value in vars(head).values()))


def instant(value: datetime) -> str:
    """Microseconds, always: what PostgreSQL keeps."""
    text = value.astimezone(UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def _bytes(*values: str | int | None) -> bytes:
    return orjson.dumps(values)


def _hash(*values: str | int | None) -> str:
    return hashlib.sha256(_bytes(*values)).hexdigest()
