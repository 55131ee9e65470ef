"""Evidence: whole chains with the roots over them, in pieces, whatever their length.

A list that lacks entries proves nothing, so an export that is filtered has all links, and withholds
the content of those that were not asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from services.console.audit import lines
from services.console.audit.canonical import instant
from services.console.audit.roots import root_of
from services.console.store import audit_exports as store
from services.console.store import audit_roots
from services.console.store.audit_lists import Filters
from shared.db.pool import Connection, Pool, transaction
from shared.runtime import turns
from shared.runtime.clock import Clock

Row = dict[str, Any]
_READING: Final = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
    "SET LOCAL enable_seqscan = off; SET LOCAL jit = off; SET LOCAL enable_hashjoin = off;"
    "SET LOCAL max_parallel_workers_per_gather = 0"
)
_CHUNK: Final = 500
"""Links at a time: while they are written nobody else is served."""
_ROOTS: Final = 500


@dataclass
class _Course:
    """Where the export is: the last position written of each chain, by its id."""

    anchor: Row | None
    """The root that it begins with."""
    begins: Sequence[Row]
    first: int
    """The first root after the beginning."""
    last: int
    tail: bool
    """Whether links that are under no root yet are wanted."""
    at: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Span:
    chain_id: int
    behind: int
    up_to: int

    def pieces(self) -> list[_Span]:
        """None larger than a chunk."""
        low = range(self.behind, self.up_to, _CHUNK)
        return [_Span(self.chain_id, at, min(at + _CHUNK, self.up_to)) for at in low]


@dataclass(frozen=True)
class _Rooted:
    """A root and the heads that it names."""

    root: Row
    moved: Sequence[Row]


class Exporting:
    """Writes exports; each piece is a transaction of its own: a slow reader holds nothing open."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def lines(self, filters: Filters) -> AsyncIterator[bytes]:
        """From the root before `since`, or from the beginning, to the root after `until`."""
        written = 0
        async with transaction(self._pool, _READING) as tx:
            course = await _course(tx, filters)
            head = self._head(filters, course, await audit_roots.keys(tx))
        yield head
        async for text, links in self._under_roots(course, filters):
            written += links
            yield text
        if course.tail:
            async for text, links in self._rest(course, filters):
                written += links
                yield text
        yield lines.line("end", {"links": written})

    def _head(self, filters: Filters, course: _Course, keys: Sequence[Row]) -> bytes:
        asked = {name: value for name, value in vars(filters).items() if value is not None}
        values = {"format": lines.FORMAT, "exported_at": instant(self._clock.now())}
        parts = [lines.line("audit", {**values, "filters": asked})]
        for key in keys:
            shown = {"key_id": key["key_id"], "public_key": key["public_key"].hex()}
            parts.append(lines.line("key", shown))
        parts += [
            lines.begin_line(*(one[n] for n in ("topic", "partition_number", "position", "hash")))
            for one in course.begins
        ]
        if course.anchor is not None:
            parts.append(lines.root_line(root_of(course.anchor), course.begins))
        return b"".join(parts)

    async def _under_roots(
        self, course: _Course, filters: Filters
    ) -> AsyncIterator[tuple[bytes, int]]:
        """Root by root: the links up to it, then the root."""
        waiting: list[_Span | _Rooted] = []
        links = 0
        async for step in self._steps(course):
            waiting.append(step)
            links += step.up_to - step.behind if isinstance(step, _Span) else 0
            if links >= _CHUNK or len(waiting) >= _ROOTS:
                yield await self._written(waiting, filters)
                waiting, links = [], 0
                await turns.pause()
        if waiting:
            yield await self._written(waiting, filters)

    async def _steps(self, course: _Course) -> AsyncIterator[_Span | _Rooted]:
        number, whole = course.first, course.anchor is None
        while number <= course.last:
            async with transaction(self._pool, _READING) as tx:
                roots = await store.roots(tx, number, course.last, _ROOTS)
                if not roots:
                    return
                number = roots[-1]["number"] + 1
                moved = await store.moved(tx, roots[0]["number"], roots[-1]["number"])
                # The first root names every chain: nothing before it says where they were.
                every = await store.heads_at(tx, roots[0]["number"]) if whole else []
            named: dict[int, list[Row]] = defaultdict(list)
            for head in moved:
                named[head["number"]].append(head)
            for root in roots:
                heads = named[root["number"]]
                heads, whole = (every, False) if whole else (heads, False)
                for head in heads:
                    behind = course.at.get(head["chain_id"], 0)
                    for piece in _Span(head["chain_id"], behind, head["position"]).pieces():
                        yield piece
                    course.at[head["chain_id"]] = max(behind, head["position"])
                yield _Rooted(root, heads)

    async def _written(
        self, steps: Sequence[_Span | _Rooted], filters: Filters
    ) -> tuple[bytes, int]:
        spans = [step for step in steps if isinstance(step, _Span)]
        found: dict[int, list[Row]] = {}
        if spans:
            async with transaction(self._pool, _READING) as tx:
                for row in await store.links(tx, [(s.chain_id, s.behind, s.up_to) for s in spans]):
                    found.setdefault(row["place"], []).append(row)
        parts, place, links = [], 0, 0
        for step in steps:
            if isinstance(step, _Rooted):
                parts.append(lines.root_line(root_of(step.root), step.moved))
                continue
            place += 1
            rows = found.get(place, [])
            parts += [_line(row, filters) for row in rows]
            links += len(rows)
        return b"".join(parts), links

    async def _rest(self, course: _Course, filters: Filters) -> AsyncIterator[tuple[bytes, int]]:
        """What came after the last root."""
        async with transaction(self._pool, _READING) as tx:
            chains = await store.beginnings(tx)
        for chain in chains:
            behind = max(course.at.get(chain["chain_id"], 0), chain["kept_from"] - 1)
            while True:
                async with transaction(self._pool, _READING) as tx:
                    rows = await store.rest(tx, chain["chain_id"], behind, _CHUNK)
                if rows:
                    yield b"".join(_line(row, filters) for row in rows), len(rows)
                    behind = rows[-1]["position"]
                    await turns.pause()
                if len(rows) < _CHUNK:
                    break


async def _course(tx: Connection, filters: Filters) -> _Course:
    newest = await audit_roots.last(tx)
    last = newest["number"] if newest else 0
    tail = True
    if filters.until is not None and (after := await store.signed_after(tx, filters.until)):
        last, tail = after, False
    kept = await store.beginnings(tx)
    anchor = None if filters.since is None else await store.signed_by(tx, filters.since)
    if anchor is not None and anchor <= last:
        heads = await store.heads_at(tx, anchor)
        first = {row["chain_id"]: row["kept_from"] for row in kept}
        if all(head["position"] >= first.get(head["chain_id"], 1) - 1 for head in heads):
            [root] = await store.roots(tx, anchor, anchor, 1)
            at = {head["chain_id"]: head["position"] for head in heads}
            return _Course(root, heads, anchor + 1, last, tail, at)
    return await _from_what_is_kept(tx, kept, last, tail=tail)


async def _from_what_is_kept(
    tx: Connection, kept: Sequence[Row], last: int, *, tail: bool
) -> _Course:
    """Old links may be gone: the first root that is exported speaks of none of them."""
    first = await audit_roots.first(tx) or 1
    begins = []
    for chain in kept:
        if (position := chain["kept_from"] - 1) > 0:
            begins.append({**chain, "position": position, "hash": chain["previous"]})
            reached = await store.reaches(tx, chain["chain_id"], position)
            first = max(first, reached or last + 1)
    at = {begin["chain_id"]: begin["position"] for begin in begins}
    return _Course(None, begins, first, last, tail, at)


def _line(row: Row, filters: Filters) -> bytes:
    return lines.link_line(row, withheld=not _asked_for(row, filters))


def _asked_for(row: Row, filters: Filters) -> bool:
    at = row["occurred_at"]
    return (
        all(row[name] == value for name, value in filters.named.items())
        and (filters.since is None or at >= filters.since)
        and (filters.until is None or at < filters.until)
    )
