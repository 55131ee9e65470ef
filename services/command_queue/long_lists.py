"""What is done with the ids of a target list, which may be hundreds of thousands: in pieces."""

from __future__ import annotations

import bisect
import hashlib
import heapq
from collections.abc import Sequence
from itertools import groupby, islice
from uuid import UUID

from shared.db.locks import IN_ORDER
from shared.runtime import turns


async def in_order(ids: Sequence[UUID]) -> list[UUID]:
    """Each id once, sorted."""
    runs = [
        sorted({one.int: one for one in some}.values(), key=IN_ORDER)
        async for some in turns.pieces(ids)
    ]
    if len(runs) == 1:
        return runs[0]
    distinct = (one for one, _ in groupby(heapq.merge(*runs, key=IN_ORDER)))
    found: list[UUID] = []
    while some := list(islice(distinct, turns.PIECE)):
        await turns.pause()
        found += some
    return found


async def digest(ids: Sequence[UUID]) -> str:
    """SHA-256 of the ids, one after the other."""
    found = hashlib.sha256()
    async for some in turns.pieces(ids):
        found.update(b"".join([one.bytes for one in some]))
    return found.hexdigest()


def holds(devices: Sequence[UUID], one: UUID) -> bool:
    """Whether it is one of the sorted devices."""
    at = bisect.bisect_left(devices, one)
    return at < len(devices) and devices[at] == one
