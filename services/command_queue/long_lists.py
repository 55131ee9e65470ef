"""What is done with the ids of a target list, which may be hundreds of thousands: in pieces."""

from __future__ import annotations

import hashlib
import heapq
import operator
from collections.abc import Sequence
from itertools import groupby, islice
from typing import Final
from uuid import UUID

from shared.runtime import turns

_NUMBER: Final = operator.attrgetter("int")


async def in_order(ids: Sequence[UUID]) -> list[UUID]:
    """Each id once, sorted."""
    runs = [
        sorted({one.int: one for one in some}.values(), key=_NUMBER)
        async for some in turns.pieces(ids)
    ]
    if len(runs) == 1:
        return runs[0]
    distinct = (one for one, _ in groupby(heapq.merge(*runs, key=_NUMBER)))
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
