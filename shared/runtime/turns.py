"""A long piece of work in small pieces, so that everything else in the process has its turn.

A thread would not do: it takes the interpreter for five milliseconds each time that the event loop
has let go of it for a moment, which the loop does several times a request
(docs/decisions/0033-a-long-list-in-small-pieces.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

PIECE: Final = 500
"""Entries of a list: well under half a millisecond of whatever is done with them."""
_PAUSE_SECONDS: Final = 0.001


async def pause() -> None:
    """Let others go first: longer than a piece takes, so that most of the time is theirs."""
    await asyncio.sleep(_PAUSE_SECONDS)


async def pieces(items: Sequence[T], size: int = PIECE) -> AsyncIterator[Sequence[T]]:
    """Slices of `items`, with a pause between any two of them."""
    for at in range(0, len(items), size):
        if at:
            await pause()
        yield items[at : at + size]
