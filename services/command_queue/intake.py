"""Commands that people and API clients ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from services.command_queue.control import By, audited
from services.command_queue.errors import CommandRefused
from services.command_queue.requests import Accepted, Ask, Requests
from services.command_queue.store import devices
from shared.bus import outbox
from shared.db.pool import Connection, Pool, transaction
from shared.runtime.clock import Clock
from shared.runtime.jobs import Wake


class Intake:
    """Takes one request at a time, with everything it leads to in one transaction."""

    def __init__(self, pool: Pool, clock: Clock, requests: Requests, expand: Wake) -> None:
        self._pool, self._clock, self._requests = pool, clock, requests
        self._expand = expand

    async def take(
        self, ask: Ask, by: By, *, everyone: bool = False, channels: Sequence[UUID] = ()
    ) -> Accepted:
        """Store a command for the devices of `ask` (or all that are enrolled) and for `channels`.

        A repeat returns the command it repeats. Raises CommandRefused, KeyTaken among them.
        """
        async with transaction(self._pool) as tx:
            ask = await _with_targets(tx, ask, everyone=everyone, channels=channels)
            [accepted] = await self._requests.accept(tx, [ask], self._clock.now())
            if isinstance(accepted, CommandRefused):
                raise accepted
            if accepted.created:
                after = {
                    "kind": ask.kind,
                    "command_class": accepted.command_class,
                    "state": accepted.state,
                    "targets": accepted.target_count,
                }
                target = str(accepted.command_id)
                await outbox.emit(tx, [audited(by, "command.create", target, after=after)])
        self._expand.set()
        return accepted


async def _with_targets(
    tx: Connection, ask: Ask, *, everyone: bool, channels: Sequence[UUID]
) -> Ask:
    """Freeze who is meant: who comes later never joins."""
    if everyone:
        if ask.device_ids:
            raise CommandRefused("targets_invalid", "Name devices, or all of them, not both.")
        ask = replace(ask, device_ids=await devices.enrolled(tx))
    if channels:
        found = await devices.devices_of_channels(tx, channels)
        if len(found) < len(set(channels)):
            raise CommandRefused("channel_unknown", "channel_ids names a channel nobody knows.")
        ask = replace(ask, channel_ids=found)
    return ask
