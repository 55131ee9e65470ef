"""Commands that people and API clients ask for.

Concurrent requests share a transaction; a long list of targets has one to itself, so that nobody
waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from services.command_queue import scoping
from services.command_queue.control import By, audited
from services.command_queue.errors import CommandRefused, OutOfReach
from services.command_queue.requests import Accepted, Ask, Requests
from services.command_queue.store import devices
from shared.bus import outbox
from shared.bus.context import correlation_id
from shared.bus.tracing import current_traceparent
from shared.db.batcher import Batcher
from shared.db.pool import Connection, Pool, transaction
from shared.events import Event
from shared.runtime.clock import Clock
from shared.runtime.jobs import Wake

_MANY_TARGETS: Final = 1000
_MAX_BATCH: Final = 32


@dataclass(frozen=True, slots=True)
class _Request:
    """One person's request on its way."""

    ask: Ask
    by: By
    channels: Sequence[UUID]


class Intake:
    """Takes requests, each with everything it leads to in one transaction."""

    def __init__(self, pool: Pool, clock: Clock, requests: Requests, expand: Wake) -> None:
        self._pool, self._clock, self._requests = pool, clock, requests
        self._expand = expand
        self._batcher: Batcher[_Request, Accepted] = Batcher(
            "command_queue_requests", pool, self._flush, key=_key, max_batch=_MAX_BATCH, parallel=2
        )

    async def close(self) -> None:
        await self._batcher.close()

    async def take(
        self, ask: Ask, by: By, *, everyone: bool = False, channels: Sequence[UUID] = ()
    ) -> Accepted:
        """Store a command for the devices of `ask` (or all that are enrolled) and for `channels`.

        A repeat returns the command it repeats. Raises CommandRefused, KeyTaken among them, and
        Overloaded.
        """
        trail = (correlation_id.get(), current_traceparent())
        request = _Request(
            replace(ask, correlation_id=trail[0], traceparent=trail[1]), by, channels
        )
        if everyone or len(ask.device_ids) > _MANY_TARGETS:
            accepted = await self._take_alone(request, everyone=everyone)
        else:
            accepted = await self._batcher.put(request)
        self._expand.set()
        return accepted

    async def _take_alone(self, request: _Request, *, everyone: bool) -> Accepted:
        async with transaction(self._pool) as tx:
            if everyone:
                if request.ask.device_ids:
                    raise CommandRefused(
                        "targets_invalid", "Name devices, or all of them, not both."
                    )
                named = replace(
                    request.ask, device_ids=await devices.enrolled(tx, request.ask.reach)
                )
                request = replace(request, ask=named)
            [accepted] = await self._flush(tx, [request])
            if isinstance(accepted, CommandRefused):
                raise accepted
        return accepted

    async def _flush(
        self, tx: Connection, requests: Sequence[_Request]
    ) -> list[Accepted | CommandRefused]:
        results: dict[int, Accepted | CommandRefused] = {}
        asks: dict[int, Ask] = {}
        for place, request in enumerate(requests):
            try:
                asks[place] = await _within_reach(tx, request)
            except CommandRefused as refusal:
                results[place] = refusal
        taken, events = await self._requests.accept(tx, list(asks.values()), self._clock.now())
        results |= dict(zip(asks, taken, strict=True))
        events += [
            _audited(requests[place], accepted)
            for place, accepted in results.items()
            if isinstance(accepted, Accepted) and accepted.created
        ]
        await outbox.emit(tx, events)
        return [results[place] for place in range(len(requests))]


def _key(request: _Request) -> tuple[str, str]:
    """A repeat waits for what it repeats."""
    return request.ask.actor, request.ask.idempotency_key


async def _within_reach(tx: Connection, request: _Request) -> Ask:
    """The ask with its channels' devices; raises CommandRefused when one is outside."""
    ask = await _with_channels(tx, request)
    if ask.reach is not None:
        named = {*ask.device_ids, *ask.channel_ids.values()}
        await scoping.refuse_outside(tx, list(named), ask.reach)
    return ask


async def _with_channels(tx: Connection, request: _Request) -> Ask:
    """Freeze who is meant: who comes later never joins. Raises CommandRefused."""
    if not request.channels:
        return request.ask
    found = await devices.devices_of_channels(tx, request.channels)
    if unknown := len(set(request.channels)) - len(found):
        if request.ask.reach is not None:
            raise OutOfReach(unknown)
        raise CommandRefused("channel_unknown", "channel_ids names a channel nobody knows.")
    # Who names a device channel means the device, which may be named as well: one target.
    named = [device for device, kind in found.values() if kind == "device"]
    return replace(
        request.ask,
        device_ids=[*request.ask.device_ids, *named],
        channel_ids={channel: of for channel, (of, kind) in found.items() if kind != "device"},
    )


def _audited(request: _Request, accepted: Accepted) -> Event:
    after = {
        "kind": request.ask.kind,
        "command_class": accepted.command_class,
        "state": accepted.state,
        "targets": accepted.target_count,
    }
    if accepted.target_count == 1 and request.ask.device_ids:
        after["device"] = str(request.ask.device_ids[0])
    event = audited(request.by, "command.create", str(accepted.command_id), after=after)
    return event.along(request.ask.correlation_id, request.ask.traceparent)
