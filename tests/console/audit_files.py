"""Exports as an honest exporter writes them, without a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.console.audit.canonical import (
    NOTHING,
    Content,
    Head,
    Key,
    Link,
    Root,
    heads_hash,
    instant,
)
from services.console.audit.verifying import Told

START = datetime(2026, 3, 1, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw().hex()
CHAINS: Sequence[Key] = (
    ("muster.audit.a.v1", 0),
    ("muster.audit.a.v1", 1),
    ("muster.audit.b.v1", 0),
)
File = list[dict[str, Any]]


class Writer:
    """Writes what an honest exporter writes, without a database."""

    def __init__(self, actor: str = "actor") -> None:
        self.actor = actor
        self.file: File = [
            {"type": "audit", "format": 1, "filters": {}},
            {"type": "key", "key_id": "k", "public_key": PUBLIC},
        ]
        self.ends: dict[Key, Head] = {}
        self.moved: dict[Key, Head] = {}
        self.roots: list[Told] = []
        self.links = 0

    def link(self, key: Key) -> None:
        before = self.ends.get(key)
        self.links += 1
        at = instant(START + timedelta(seconds=self.links))
        words = {name: f"{name} {self.links}" for name in ("target", "after", "source")}
        content = Content(
            salt=f"{self.links:032x}",
            audit_id=f"id {self.links}",
            actor=f"{self.actor} {self.links}",
            before=None,
            reason=None,
            via=None,
            correlation_id=None,
            **words,
        )
        link = Link(
            *key,
            position=before.position + 1 if before else 1,
            offset=2 * self.links,
            previous=before.hash if before else NOTHING,
            recorded_at=at,
            event_id=f"event {self.links}",
            occurred_at=at,
            action="device.erase",
            permission="p.q",
            content=content.hash,
        )
        shown = {**asdict(link), "hash": link.hash, "entry": asdict(content)}
        self.file.append({"type": "link", **shown})
        self.ends[key] = self.moved[key] = Head(*key, 1, link.position, link.hash)

    def root(self) -> None:
        last = self.roots[-1].root if self.roots else None
        root = Root(
            number=len(self.roots) + 1,
            signed_at=instant(START + timedelta(seconds=self.links)),
            previous=last.hash if last else NOTHING,
            heads=heads_hash(self.ends.values()),
            chains=len(self.ends),
            links=sum(head.position for head in self.ends.values()),
            key_id="k",
        )
        told = Told(root, KEY.sign(root.statement).hex())
        moved = [asdict(head) for head in self.moved.values()]
        self.file.append(
            {"type": "root", **asdict(root), "signature": told.signature, "moved": moved}
        )
        self.roots.append(told)
        self.moved = {}

    def end(self) -> None:
        self.file.append({"type": "end", "links": self.links})


def written(minutes: Sequence[Sequence[int]], actor: str = "actor") -> Writer:
    """A root after each minute's links; a link is told by the number of its chain."""
    writer = Writer(actor)
    for minute in minutes:
        for chain in minute:
            writer.link(CHAINS[chain])
        writer.root()
    writer.end()
    return writer
