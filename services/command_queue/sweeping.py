"""Ending what a cancel or the clock has ended: a thousand targets at a time, resumable."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.command_queue import settling
from services.command_queue.escrow import COUNTED
from services.command_queue.store import (
    approvals,
    canaries,
    charges,
    commands,
    escrow,
    freezes,
    pending,
    protection,
)
from services.command_queue.store.commands import Due
from services.command_queue.store.outcomes import End
from services.command_queue.store.pending import Open
from shared.bus import outbox
from shared.db import partitions
from shared.db.locks import lock_devices
from shared.db.pool import Pool, transaction
from shared.events.commands import CommandCancelled, TargetState

_COMMANDS: Final = 500
_TARGETS: Final = 1000
_HERE: Final = ("held", "queued", "deferred")
_OUT: Final = ("sent", "cancel_requested")
_KEYS: Final = 5000
_KEYS_KEPT: Final = timedelta(days=100)
"""Longer than any command lives, shorter than any is remembered."""
_ON_ITS_WAY: Final = timedelta(minutes=1)
"""Longer than a request can be between its time and its commit."""
_PARTITIONS_AHEAD: Final = 35
_PAST: Final = ("outcome", "past_command")


async def sweep(pool: Pool, now: datetime, patience: timedelta) -> bool:
    """End targets of commands that were cancelled or ran out of time; True when more waits.

    `patience` is how long after its expiry the answer to a command that is out is awaited.
    """
    called_off = await _call_off(pool, now)
    async with transaction(pool) as tx:
        finished = await commands.finish(tx, now, _COMMANDS)
    later = 0
    if finished < _COMMANDS:
        async with transaction(pool) as tx:
            later = await commands.look_later(tx, now, _COMMANDS)
    async with transaction(pool) as tx:
        expired = await commands.expire(tx, now, _COMMANDS)
        told = [
            CommandCancelled(command_id=one, actor="job:sweep", reason="expired") for one in expired
        ]
        await outbox.emit(tx, told)
    async with transaction(pool) as tx:
        await canaries.unpark_ended(tx)
        due = {one.command_id: one for one in await commands.due(tx, now, _COMMANDS)}
    ended = await _end(pool, due, _HERE, now)
    cancelled = {one: row for one, row in due.items() if _is_cancelled(row)}
    asked = await _ask_back(pool, cancelled)
    overdue = {one: row for one, row in due.items() if row.expires_at + patience <= now}
    given_up = await _end(pool, overdue, _OUT, now)
    async with transaction(pool) as tx:
        await commands.postpone(tx, due, now, patience)
    return _COMMANDS in {finished, later, called_off} or _TARGETS in {ended, asked, given_up}


async def _call_off(pool: Pool, now: datetime) -> int:
    """Mark commands that were cancelled all at once; return how many."""
    async with transaction(pool) as tx:
        if (of := await freezes.called_off(tx)) is None:
            return 0
        await pending.stop_claims(tx)
        found = await freezes.call_off(tx, of, now, _COMMANDS)
        told = [
            CommandCancelled(command_id=one, actor=of["actor"], reason=of["reason"][:300])
            for one in found
        ]
        await outbox.emit(tx, told)
        if len(found) < _COMMANDS and of["created_at"] <= now - _ON_ITS_WAY:
            await freezes.lift(tx, of["freeze_id"], now, "job:sweep")
    return len(found)


async def _end(pool: Pool, due: Mapping[UUID, Due], states: tuple[str, ...], now: datetime) -> int:
    """End targets that are in these states; return how many were looked at."""
    async with transaction(pool) as tx:
        found = await pending.of_commands(tx, due, states, _TARGETS)
    if not found:
        return 0
    async with transaction(pool) as tx:
        await lock_devices(tx, {one.device_id for one in found})
        ends = [_ending(one, due[one.command_id]) for one in found]
        # A device may have answered or been answered meanwhile: then it is found the next time.
        await outbox.emit(tx, await settling.settle(tx, ends, now, out_of=states))
    return len(found)


async def _ask_back(pool: Pool, cancelled: Mapping[UUID, Due]) -> int:
    """Mark what is out of cancelled commands: too late to recall."""
    async with transaction(pool) as tx:
        found = await pending.of_commands(tx, cancelled, ("sent",), _TARGETS)
    if found:
        async with transaction(pool) as tx:
            await lock_devices(tx, {one.device_id for one in found})
            await pending.request_cancel(tx, [one.key for one in found])
    return len(found)


def _ending(one: Open, due: Due) -> End:
    if one.state in _OUT:
        # Nobody knows what came of it, and intent is never shown as outcome.
        why = "handed out, and not answered in time"
        return End(*one.key, TargetState.UNCONFIRMED, why)
    if _is_cancelled(due):
        why = due.end_reason or "cancelled"
        return End(*one.key, TargetState.CANCELLED, why)
    return End(*one.key, TargetState.EXPIRED, "not done in time")


def _is_cancelled(due: Due) -> bool:
    return due.state == "cancelled"


async def tidy(pool: Pool, now: datetime, kept: timedelta) -> bool:
    """Make partitions ahead and drop history that is too old; True when more waits."""
    for table in _PAST:
        await partitions.make_ahead(pool, table, days_ahead=_PARTITIONS_AHEAD)
    async with transaction(pool) as tx:
        await charges.forget(tx, now)
        await escrow.forget(tx, now - COUNTED)
        await protection.forget(tx, now)
        await canaries.forget(tx, now - kept)
        await approvals.forget(tx, partitions.bound(now - kept), now - kept)
        # Keys first: none may name a command that is dropped already.
        before = partitions.bound(now - _KEYS_KEPT)
        if await commands.forget_keys(tx, before, _KEYS) == _KEYS:
            return True
    for table in _PAST:
        await partitions.drop_old(pool, table, now - kept)
    return False
