"""Verifying an export, offline: no database, no key that is secret, memory for one line at a time.

`Verifier` takes the lines one after the other and raises Broken at the first that cannot be true.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.console.audit.canonical import (
    NOTHING,
    Content,
    Head,
    Key,
    Link,
    Root,
    heads_hash,
)

FORMAT: Final = 1
MAX_LINE: Final = 16 * 1024 * 1024
Values = Mapping[str, Any]


class Broken(Exception):  # noqa: N818 - it is what somebody wants to know, not an error of ours
    """The first thing that cannot be true. `kind`: changed, dropped, inserted, reordered, cut_off,
    forged or unreadable.
    """

    def __init__(self, kind: str, detail: str, at: tuple[Key, int] | None = None) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.at = kind, detail, at
        """`at`: the chain and the position that was expected there."""


@dataclass(frozen=True)
class Told:
    """A root that came another way: by the log, the topic or a webhook."""

    root: Root
    signature: str

    @classmethod
    def read(cls, text: bytes | str) -> Told:
        """Of JSON: the root itself, a CloudEvent that holds it, or the line of the log."""
        try:
            values = orjson.loads(text)
            for name in ("data", "root"):
                inner = values.get(name)
                values = orjson.loads(inner) if isinstance(inner, str) else inner or values
            return cls(Root.read(values), str(values["signature"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ValueError("this is no root of an audit") from None


@dataclass
class Report:
    """What was in a file that holds together."""

    links: int = 0
    erased: int = 0
    withheld: int = 0
    """Left out because the export was filtered."""
    late: int = 0
    """Offsets below their predecessor's: replayed dead letters."""
    skipped: int = 0
    """Offsets that no link has: the broker's own marks, or records that had expired."""
    roots: int = 0
    after: int = 0
    """Links that are under no root."""
    begun: int = 0
    """Chains that begin later than with their first link."""
    first: Root | None = None
    last: Root | None = None
    keys: dict[str, str] = field(default_factory=dict)
    """Key id → public key, in hex, of those that signed."""
    chains: set[Key] = field(default_factory=set)
    filters: Values = field(default_factory=dict)


class Verifier:
    """Takes lines in the order of the file. `told`: roots known from elsewhere; `keys`: public keys
    that are trusted, in hex; none: those in the file are believed, and named in the report.
    """

    def __init__(self, told: Sequence[Told] = (), keys: Iterable[str] = ()) -> None:
        self.report = Report()
        self._told = {one.root.number: one for one in told}
        self._trusted = set(keys)
        self._keys: dict[str, str] = {}
        self._ends: dict[Key, tuple[int, str]] = {}
        """Position and hash of each chain's last link so far."""
        self._begins: dict[Key, int] = {}
        self._firsts: dict[Key, int] = {}
        """From where on roots say that chains are kept."""
        self._offsets: dict[Key, int] = {}
        self._open = self._over = False
        self._takes = {
            "key": self._key,
            "begin": self._begin,
            "link": self._link,
            "root": self._root,
            "end": self._end,
        }

    def take(self, text: bytes) -> None:
        """The next line; raises Broken."""
        values = read(text)
        if self._over:
            raise Broken("inserted", "Something stands behind the end of the file.")
        if not self._open:
            self._start(values)
            return
        try:
            self._takes[str(values["type"])](values)
        except (KeyError, TypeError, ValueError):
            raise Broken("unreadable", "A line is none of an export.") from None

    def finish(self) -> Report:
        """What all of it says; raises Broken when more was known outside."""
        last = self.report.last
        for number, one in sorted(self._told.items()):
            if last is None or number > last.number:
                detail = f"Root {number} was told at {one.root.signed_at}, and the file ends before"
                raise Broken("cut_off", f"{detail}{_after(last)}.")
            if self.report.first and number < self.report.first.number:
                detail = f"Root {number} is older than this file, which begins with root"
                raise Broken("cut_off", f"{detail} {self.report.first.number}: take a newer one.")
        if not self._over:
            raise Broken("cut_off", "The file has no end: it did not arrive whole.")
        if last is not None and "since" not in self.report.filters:
            self._begun(last)
        return self.report

    def _begun(self, last: Root) -> None:
        """Old links may only be gone where a root says so."""
        for key, position in self._begins.items():
            first = self._firsts.get(key, 1)
            if position >= first:
                at = key, first
                detail = f"{name(*at)} is missing: root {last.number} says that it is kept."
                raise Broken("dropped", detail, at)

    def _start(self, values: Values) -> None:
        if values.get("type") != "audit" or values.get("format") != FORMAT:
            raise Broken("unreadable", "This is no export of an audit that this version reads.")
        self._open = True
        self.report.filters = values.get("filters") or {}

    def _key(self, values: Values) -> None:
        self._keys[str(values["key_id"])] = str(values["public_key"])

    def _begin(self, values: Values) -> None:
        key = str(values["topic"]), int(values["partition"])
        if key in self._ends:
            raise Broken("inserted", f"{name(key)} begins twice.", (key, 0))
        self._begins[key] = int(values["position"])
        self._ends[key] = self._begins[key], str(values["hash"])
        self.report.begun += 1

    def _link(self, values: Values) -> None:
        link = Link(**{one.name: values[one.name] for one in fields(Link)})
        last, previous = self._ends.get(link.key, (0, NOTHING))
        expected = last + 1
        at = link.key, expected
        if link.position > expected:
            detail = f"{name(*at)} is missing: link {link.position} comes in its place."
            raise Broken("dropped", detail, at)
        if link.position < expected:
            detail = f"{name(link.key, link.position)} comes twice: one of both was inserted."
            raise Broken("inserted", detail, (link.key, link.position))
        if link.previous != previous:
            detail = f"{name(*at)} does not follow the link before it: one of both was changed."
            raise Broken("changed", detail, at)
        if link.hash != values["hash"]:
            raise Broken("changed", f"{name(*at)} was changed ({link.action}).", at)
        self._content(link, values, at)
        self._ends[link.key] = link.position, link.hash
        self._count(link)

    def _content(self, link: Link, values: Values, at: tuple[Key, int]) -> None:
        entry = values.get("entry")
        if entry is not None:
            content = Content(**{one.name: entry[one.name] for one in fields(Content)})
            if content.hash != link.content:
                detail = f"The content of {name(*at)} was changed ({link.action})."
                raise Broken("changed", detail, at)
        elif "erased_at" in values:
            self.report.erased += 1
        elif self.report.filters and values.get("withheld"):
            self.report.withheld += 1
        else:
            raise Broken("changed", f"The content of {name(*at)} is missing.", at)

    def _count(self, link: Link) -> None:
        before = self._offsets.get(link.key)
        if before is not None and link.offset <= before:
            self.report.late += 1
        else:
            self.report.skipped += link.offset - before - 1 if before is not None else 0
            self._offsets[link.key] = link.offset
        self.report.chains.add(link.key)
        self.report.links += 1
        self.report.after += 1

    def _root(self, values: Values) -> None:
        root = Root.read(values)
        self._follows(root)
        self._signed(root, str(values["signature"]))
        for moved in values["moved"]:
            self._reaches(root, _head(moved))
        heads = [
            Head(*key, self._firsts.get(key, 1), position, hash_)
            for key, (position, hash_) in self._ends.items()
        ]
        agrees = heads_hash(heads) == root.heads and root.chains == len(heads)
        if not agrees or root.links != sum(head.position for head in heads):
            detail = f"Root {root.number} ({root.signed_at}) was signed over other heads."
            raise Broken("forged", detail)
        told = self._told.get(root.number)
        if told is not None and told.root != root:
            detail = f"Root {root.number} of the file is not the one that was told: at or before"
            raise Broken("forged", f"{detail} {root.signed_at} the audit was rewritten.")
        self.report.first = self.report.first or root
        self.report.last = root
        self.report.roots += 1
        self.report.after = 0

    def _follows(self, root: Root) -> None:
        last = self.report.last
        if last is None:
            if root.number == 1 and root.previous != NOTHING:
                raise Broken("forged", "Root 1 names a root before it.")
            return
        if root.number > last.number + 1:
            raise Broken("dropped", f"Root {last.number + 1} is missing{_after(last)}.")
        if root.number <= last.number:
            raise Broken("inserted", f"Root {root.number} comes again{_after(last)}.")
        if root.previous != last.hash:
            raise Broken("forged", f"Root {root.number} does not follow root {last.number}.")

    def _signed(self, root: Root, signature: str) -> None:
        key = self._keys.get(root.key_id)
        if key is None:
            raise Broken("forged", f"Root {root.number} is signed with a key that is not here.")
        if self._trusted and key not in self._trusted:
            detail = f"Root {root.number} is signed with a key that you did not name: {key}."
            raise Broken("forged", detail)
        try:
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
            public.verify(bytes.fromhex(signature), root.statement)
        except (InvalidSignature, ValueError):
            detail = f"The signature of root {root.number} ({root.signed_at}) is not good."
            raise Broken("forged", detail) from None
        self.report.keys[root.key_id] = key

    def _reaches(self, root: Root, head: Head) -> None:
        """The chain ends where the root says."""
        reached, hash_ = self._ends.get(head.key, (0, NOTHING))
        self._firsts[head.key] = head.first
        if reached < head.position:
            at = head.key, reached + 1
            detail = f"{name(*at)} is missing: root {root.number} was signed over more."
            raise Broken("cut_off", detail, at)
        if reached > head.position:
            at = head.key, head.position + 1
            detail = f"{name(*at)} stands before root {root.number}, which was signed without it."
            raise Broken("inserted", detail, at)
        if hash_ != head.hash:
            detail = f"{name(head.key, head.position)} is not the one that root {root.number} says:"
            raise Broken("changed", f"{detail} it or one before it was rewritten.", (head.key, 0))

    def _end(self, values: Values) -> None:
        if int(values["links"]) != self.report.links:
            raise Broken("dropped", f"{values['links']} links were written into this file.")
        self._over = True


def read(text: bytes) -> Values:
    """One line; raises Broken when it is none."""
    try:
        values = orjson.loads(text)
    except ValueError:
        raise Broken("unreadable", "A line is not JSON, or not whole.") from None
    if not isinstance(values, dict):
        raise Broken("unreadable", "A line is none of an export.")
    return values


def verify(lines: Iterable[bytes], told: Sequence[Told] = (), keys: Iterable[str] = ()) -> Report:
    """Read a whole export; raises Broken with the first thing that cannot be true."""
    verifier, rest = Verifier(told, keys), iter(lines)
    try:
        for text in rest:
            verifier.take(text)
    except Broken as broken:
        raise _closer(broken, rest) from None
    return verifier.finish()


def _closer(broken: Broken, rest: Iterable[bytes]) -> Broken:
    """What comes later tells a link that was moved, or one that was put before it."""
    if broken.at is None or broken.kind not in {"dropped", "changed"}:
        return broken
    key, position = broken.at
    for text in rest:
        try:
            values = read(text)
        except Broken:
            continue
        place = values.get("topic"), values.get("partition"), values.get("position")
        if values.get("type") == "link" and place == (*key, position):
            if broken.kind == "dropped":
                detail = f"{name(key, position)} stands behind links that follow it."
                return Broken("reordered", detail, broken.at)
            detail = f"{name(key, position)} comes twice, and the first does not belong there."
            return Broken("inserted", detail, broken.at)
    return broken


def name(key: Key, position: int | None = None) -> str:
    """A chain or one of its links, in words."""
    chain = f"{key[0]}/{key[1]}"
    return f"Chain {chain}" if position is None else f"Link {position} of {chain}"


def _head(values: Values) -> Head:
    return Head(**{one.name: values[one.name] for one in fields(Head)})


def _after(last: Root | None) -> str:
    return f" after root {last.number} ({last.signed_at})" if last else ""
