"""The lines of an export, one JSON object each: what the exporter writes and the verifier reads.

`audit` (once, first), `key`, `begin` (where a chain begins, unless with its first link), then in
time's order the `link`s up to a `root` and that root with the heads that moved, the `link`s under
no root yet, and `end`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import orjson

from services.console.audit.canonical import Content, Link, instant
from services.console.audit.roots import Signed, head_of

Row = Mapping[str, Any]
FORMAT: Final = 1
_WORDS: Final = (
    *("actor", "target", "before", "after", "reason", "source", "via"),
    "correlation_id",
)


def line(kind: str, values: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"type": kind, **values}) + b"\n"


def link_of(row: Row) -> Link:
    """The link of a row of the table, its content by the hash that is kept."""
    return Link(
        topic=row["topic"],
        partition=row["partition_number"],
        position=row["position"],
        offset=row["record_offset"],
        previous=row["previous"].hex(),
        recorded_at=instant(row["recorded_at"]),
        event_id=str(row["event_id"]),
        occurred_at=instant(row["occurred_at"]),
        action=row["action"],
        permission=row["permission"],
        content=row["content_hash"].hex(),
    )


def content_of(row: Row) -> Content | None:
    """What was not erased of a row."""
    if row["salt"] is None:
        return None
    words = {name: row[name] for name in _WORDS}
    return Content(salt=row["salt"].hex(), audit_id=str(row["audit_id"]), **words)


def link_line(row: Row, *, withheld: bool) -> bytes:
    """`hash` is the one that is kept: the verifier works it out again."""
    content = None if withheld else content_of(row)
    values = {**asdict(link_of(row)), "hash": row["hash"].hex()}
    if content is not None:
        values["entry"] = asdict(content)
    elif row["erased_at"] is not None:
        values["erased_at"] = instant(row["erased_at"])
    else:
        values["withheld"] = withheld
    return line("link", values)


def root_line(signed: Signed, moved: Sequence[Row]) -> bytes:
    return line("root", {**signed.told, "moved": [asdict(head_of(head)) for head in moved]})


def begin_line(topic: str, partition: int, position: int, hash_: bytes) -> bytes:
    """Links up to this one are left out."""
    values = {"topic": topic, "partition": partition, "position": position, "hash": hash_.hex()}
    return line("begin", values)
