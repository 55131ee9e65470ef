"""Lists of ids are sorted and hashed in pieces, and others have their turn between any two."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.command_queue import long_lists
from shared.runtime import turns

MANY = 20_000


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread holds the interpreter longer than any piece does."""

    def refuse(thread: threading.Thread) -> None:
        raise AssertionError(thread.name)

    monkeypatch.setattr(threading.Thread, "start", refuse)


@given(ids=st.lists(st.uuids(), max_size=40), times=st.sampled_from([1, 2, 60]))
def test_each_id_is_there_once_and_in_order(ids: list[UUID], times: int) -> None:
    assert asyncio.run(long_lists.in_order(ids * times)) == sorted(set(ids))


@given(ids=st.lists(st.uuids(), max_size=40), times=st.sampled_from([1, 60]))
def test_the_digest_is_that_of_all_ids_in_a_row(ids: list[UUID], times: int) -> None:
    whole = b"".join(one.bytes for one in ids * times)
    assert asyncio.run(long_lists.digest(ids * times)) == hashlib.sha256(whole).hexdigest()


@pytest.mark.usefixtures("no_threads")
async def test_others_have_their_turn_after_every_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = 0

    async def pause() -> None:
        nonlocal turned
        turned += 1
        await asyncio.sleep(0)

    monkeypatch.setattr(turns, "pause", pause)
    ids = [uuid4() for _ in range(MANY)]
    steps = MANY // turns.PIECE
    await long_lists.in_order(ids)
    assert turned >= 2 * steps - 2  # pieces are sorted, and then merged
    turned = 0
    await long_lists.digest(ids)
    assert turned == steps - 1


async def test_a_pause_is_longer_than_no_time() -> None:
    """Else who only gives way for a turn of the loop would be busy all the time."""
    loop = asyncio.get_running_loop()
    others: list[float] = []
    loop.call_later(0.0005, lambda: others.append(loop.time()))
    await turns.pause()
    assert others


async def test_a_short_list_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse() -> None:
        raise AssertionError

    monkeypatch.setattr(turns, "pause", refuse)
    ids = [uuid4() for _ in range(turns.PIECE)]
    assert await long_lists.in_order(ids) == sorted(ids)
    assert await long_lists.digest(ids)
