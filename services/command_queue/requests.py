"""From what somebody asks for to a stored command with a frozen target list."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from services.command_queue import (
    approvers,
    budgets,
    canaries,
    catalogue,
    holding,
    long_lists,
    metrics,
    pins,
    protection,
    trails,
)
from services.command_queue.apple import wire
from services.command_queue.budgets import Hold, Weight
from services.command_queue.canaries import Parted
from services.command_queue.catalogue import Order
from services.command_queue.errors import CommandRefused, KeyTaken
from services.command_queue.settings import CommandQueueSettings
from services.command_queue.store import approvals, commands, outcomes, targets
from services.command_queue.store.targets import Chunk, Frozen
from shared.db.pool import Connection
from shared.events import Event, uuid7
from shared.events.commands import CommandClass, CommandCreated, GuardAlarmed
from shared.runtime.http import Reach
from shared.sealed import LocalCipher


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for one command; `device_ids` and `channel_ids` name the targets.

    `channel_ids` maps a named channel to its device; without a name the device channel is meant.
    `bodies` are parameters of single devices, instead of `params`. `by_enrollment` marks a request
    of the enrollment service: only its renewal may install an MDM payload.
    """

    kind: str
    params: Mapping[str, Any]
    device_ids: Sequence[UUID]
    idempotency_key: str
    actor: str
    reason: str | None = None
    expires_in: timedelta = timedelta(days=7)
    priority: int = 0
    bodies: Mapping[UUID, Mapping[str, Any]] = field(default_factory=dict)
    channel_ids: Mapping[UUID, UUID] = field(default_factory=dict)
    by_enrollment: bool = False
    reach: Reach = None
    """The groups that the asker has the rights on; None: all devices. The command keeps it."""
    cause: Event | None = None
    correlation_id: str | None = None
    """With `traceparent` the trail of a person's request, which has no event as its cause."""
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an ask became; `created` is False for a repeat of an earlier one."""

    command_id: UUID
    state: str
    command_class: CommandClass
    hold_reason: str | None
    target_count: int
    created_at: datetime
    expires_at: datetime
    created: bool


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An ask, checked and rendered."""

    ask: Ask
    order: Order
    command_id: UUID
    digest: bytes
    body: bytes | None
    chunks: list[Chunk]
    count: int
    weight: Weight
    pins: pins.Chosen


class Requests:
    """Accepts what is asked for. Settings and keys are the process's; all state is in `tx`."""

    def __init__(self, cipher: LocalCipher, settings: CommandQueueSettings) -> None:
        self._cipher, self._settings = cipher, settings

    async def accept(
        self, tx: Connection, asks: Sequence[Ask], now: datetime
    ) -> tuple[list[Accepted | CommandRefused], list[Event]]:
        """Store commands and freeze their targets; an ask that cannot be gets its refusal instead.

        One transaction: charge, command, target list and the events returned, which the caller
        emits, are true together. The same key with the same request is the same command; with
        another request it is refused (KeyTaken).
        """
        prepared: list[_Prepared | CommandRefused] = [
            await self._prepare(tx, ask, now) for ask in asks
        ]
        ready = [one for one in prepared if isinstance(one, _Prepared)]
        # A repeat must not take room in a budget; of what costs nothing most are no repeats.
        harmful = [_key(one.ask) for one in ready if budgets.is_charged(one.weight)]
        known = await commands.find_by_key(tx, harmful) if harmful else {}
        new = _first_of_each_key([one for one in ready if _key(one.ask) not in known])
        stored, events = await self._store(tx, new, now)
        known |= stored
        if taken := [key for one in ready if (key := _key(one.ask)) not in known]:
            known |= await commands.find_by_key(tx, taken)
        results = [
            one if isinstance(one, CommandRefused) else self._result(one, known[_key(one.ask)])
            for one in prepared
        ]
        return results, events

    async def _prepare(self, tx: Connection, ask: Ask, now: datetime) -> _Prepared | CommandRefused:
        try:
            order = catalogue.make(ask.kind, ask.params)
            own = {
                device: catalogue.make(ask.kind, params) for device, params in ask.bodies.items()
            }
            made = await pins.made(tx, ask.kind, ask.params, ask.device_ids, ask.bodies)
            given = own | {one: catalogue.make(ask.kind, params) for one, params in made.items()}
            order = catalogue.with_class_of_all(order, list(given.values()))
            order = await self._with_removals(tx, ask, order, given)
            return await self._prepared(ask, order, own, given, now)
        except CommandRefused as refusal:
            metrics.REQUESTED.labels(_known_kind(ask.kind), "refused").inc()
            return refusal

    async def _prepared(
        self,
        ask: Ask,
        order: Order,
        own: Mapping[UUID, Order],
        given: Mapping[UUID, Order],
        now: datetime,
    ) -> _Prepared:
        """`own`: bodies of single devices that were asked for; `given`: with those made here."""
        devices = await long_lists.in_order(ask.device_ids)
        _check_targets(ask, devices, self._settings.max_targets)
        command_id, count = uuid7(now), len(devices) + len(ask.channel_ids)
        rendered = wire.render(order.command, command_id)
        bodies = {
            device: self._sealed(wire.render(one.command, command_id), command_id, order)
            for device, one in given.items()
        }
        chosen = pins.chosen(command_id, ask.actor, order, given, devices)
        return _Prepared(
            ask=ask,
            order=pins.noted(order, chosen),
            command_id=command_id,
            digest=_digest(ask, await long_lists.digest(devices), order, own),
            body=self._sealed(rendered, command_id, order),
            chunks=targets.cut(devices, ask.channel_ids, bodies),
            pins=chosen,
            count=count,
            weight=_weight(ask, order, command_id, count),
        )

    async def _with_removals(
        self, tx: Connection, ask: Ask, order: Order, own: Mapping[UUID, Order]
    ) -> Order:
        """Removing the management profile, or one that Muster did not install on that very device,
        is destructive.
        """
        if order.removes is None:
            return order
        named = dict.fromkeys((*ask.device_ids, *ask.channel_ids.values()), order.removes)
        named |= {device: one.removes for device, one in own.items() if one.removes}
        management = tuple(self._settings.management_profile_prefixes)
        if not any(
            one.startswith(management) for one in {order.removes, *named.values()}
        ) and await outcomes.all_ours(tx, list(named.items())):
            return order
        return replace(order, command_class=CommandClass.DESTRUCTIVE)

    def _sealed(self, body: bytes, command_id: UUID, order: Order) -> bytes:
        if not order.secret:
            return body
        return self._cipher.encrypt(body, table="command", column="body", row=str(command_id))

    async def _store(
        self, tx: Connection, new: Sequence[_Prepared], now: datetime
    ) -> tuple[dict[tuple[str, str], commands.Known], list[Event]]:
        """Store what is asked for the first time; return by its key what was, and what to tell."""
        if not new:
            return {}, []
        weights = {one.command_id: await self._with_protected(tx, one, now) for one in new}
        holds = await budgets.judge(tx, list(weights.values()), self._settings, now)
        if holds:
            holds = await approvers.of_newcomers(tx, holds, weights, now, self._settings)
        rows = [self._row(one, holds.get(one.command_id), now) for one in new]
        ordinals = await commands.add(tx, rows)
        stored = [one for one in new if one.command_id in ordinals]
        # In the transaction of the command: no device is handed a PIN that is not kept.
        await pins.keep(tx, self._cipher, [one.pins for one in stored], now)
        running = [one.command_id for one in stored if one.command_id not in holds]
        await budgets.charge(tx, [weights[command_id] for command_id in running], now)
        wanted = [(_frozen(one, ordinals), one.order.changed) for one in stored]
        parted = await canaries.part(tx, wanted, now)
        await targets.add(tx, parted.lists)
        held = [one for one in stored if one.command_id in holds]
        if held:
            frozen = [self._frozen(one, holds[one.command_id], now) for one in held]
            await approvals.hold(tx, frozen)
        for one in stored:
            metrics.REQUESTED.labels(one.order.kind, "accepted").inc()
        created = {row.command_id: row for row in rows}
        events: list[Event] = [_event(one, created[one.command_id], parted) for one in stored]
        events += [_alarm(one, holds[one.command_id].reason) for one in held]
        return {_key(one.ask): created[one.command_id].known for one in stored}, events

    async def _with_protected(self, tx: Connection, one: _Prepared, now: datetime) -> Weight:
        if one.weight.command_class is not CommandClass.DESTRUCTIVE:
            return one.weight
        devices = [device for chunk in one.chunks for device in chunk.device_ids]
        return replace(one.weight, protected=await protection.count(tx, devices, now))

    def _frozen(self, one: _Prepared, hold: Hold, now: datetime) -> approvals.Holding:
        """What people decide about: the documents as devices would get them."""
        document = wire.render(one.order.command, one.command_id)
        cipher = self._cipher if one.order.secret else None
        return holding.frozen(one.command_id, hold, document, one.chunks, cipher, now)

    def _row(self, one: _Prepared, hold: Hold | None, now: datetime) -> commands.New:
        ask, order = one.ask, one.order
        cause = ask.cause.meta if ask.cause else None
        return commands.New(
            command_id=one.command_id,
            kind=order.kind,
            request_type=order.request_type,
            section=order.section,
            command_class=order.command_class,
            body=one.body,
            secret=order.secret,
            summary=order.summary,
            profile_identifier=None if order.management else order.profile_identifier,
            digest=self._cipher.encrypt(
                one.digest, table="request_key", column="digest", row=str(one.command_id)
            ),
            actor=ask.actor,
            reason=ask.reason,
            idempotency_key=ask.idempotency_key,
            state="active" if hold is None else "held",
            hold_reason=None if hold is None else hold.reason,
            priority=ask.priority,
            target_count=one.count,
            created_at=now,
            expires_at=now + ask.expires_in,
            correlation_id=cause.correlation_id if cause else ask.correlation_id,
            traceparent=trails.kept(cause.traceparent if cause else ask.traceparent, one.count),
            reach=_stored(ask.reach),
        )

    def _result(self, one: _Prepared, known: commands.Known) -> Accepted | CommandRefused:
        created = known.command_id == one.command_id
        if not created and not self._is_repeat(one, known):
            metrics.REQUESTED.labels(one.order.kind, "refused").inc()
            return KeyTaken()
        return Accepted(
            command_id=known.command_id,
            state=known.state,
            command_class=CommandClass(known.command_class),
            hold_reason=known.hold_reason,
            target_count=known.target_count,
            created_at=known.created_at,
            expires_at=known.expires_at,
            created=created,
        )

    def _is_repeat(self, one: _Prepared, known: commands.Known) -> bool:
        asked = self._cipher.decrypt(
            known.digest, table="request_key", column="digest", row=str(known.command_id)
        )
        return hmac.compare_digest(asked, one.digest)


def _stored(reach: Reach) -> str | None:
    return None if reach is None else "{" + ",".join(map(str, reach)) + "}"


def _weight(ask: Ask, order: Order, command_id: UUID, count: int) -> Weight:
    """What a command costs. Enrollment's own renewal costs nothing: in time it goes to the whole
    fleet, and nothing on a device is lost by it.
    """
    renewal = order.management and ask.by_enrollment
    return Weight(
        command_id=command_id,
        command_class=CommandClass.HARMLESS if renewal else order.command_class,
        targets=count,
        actor=ask.actor,
        management=order.management and not renewal,
        proposed=ask.cause is not None,
    )


def _key(ask: Ask) -> tuple[str, str]:
    return ask.actor, ask.idempotency_key


def _first_of_each_key(prepared: Sequence[_Prepared]) -> list[_Prepared]:
    first: dict[tuple[str, str], _Prepared] = {}
    for one in prepared:
        first.setdefault(_key(one.ask), one)
    return list(first.values())


def _known_kind(kind: str) -> str:
    """Keep strangers' words out of metric labels."""
    return kind if kind in catalogue.kinds() else "unknown"


def _check_targets(ask: Ask, devices: Sequence[UUID], most: int) -> None:
    count = len(devices) + len(ask.channel_ids)
    if count == 0:
        raise CommandRefused("targets_missing", "Name at least one device.")
    if count > most:
        raise CommandRefused("targets_too_many", f"Name at most {most} devices in one command.")
    if ask.bodies and not all(long_lists.holds(devices, device) for device in ask.bodies):
        raise CommandRefused("bodies_invalid", "bodies names a device that is not a target.")


def _digest(ask: Ask, devices: str, order: Order, own: Mapping[UUID, Order]) -> bytes:
    """SHA-256 of everything that was asked for; the time and the id are not part of it.

    `devices`: the digest of the target list.
    """
    asked = [
        ask.kind,
        _plain(order.command),
        devices,
        sorted(map(str, ask.channel_ids)),
        sorted((str(device), _plain(one.command)) for device, one in own.items()),
        ask.reason,
        ask.expires_in.total_seconds(),
        ask.priority,
    ]
    return hashlib.sha256(orjson.dumps(asked, default=str)).digest()


def _plain(command: Mapping[str, Any]) -> str:
    return hashlib.sha256(wire.render(command, UUID(int=0))).hexdigest()


def _frozen(one: _Prepared, ordinals: Mapping[UUID, int]) -> Frozen:
    return Frozen(one.command_id, ordinals[one.command_id], one.ask.priority, one.chunks)


def _event(one: _Prepared, row: commands.New, parted: Parted) -> Event:
    event = CommandCreated(
        command_id=row.command_id,
        kind=row.kind,
        request_type=row.request_type,
        command_class=one.order.command_class,
        state=row.state,
        hold_reason=row.hold_reason,
        actor=row.actor,
        reason=row.reason,
        target_count=row.target_count,
        expires_at=row.expires_at,
        reach=one.ask.reach,
        canary=parted.first.get(one.command_id),
    )
    if one.ask.cause is None:
        return event.along(row.correlation_id, row.traceparent)
    return event.because(one.ask.cause)


def _alarm(one: _Prepared, hold: str) -> Event:
    alarm = GuardAlarmed(
        alarm_id=uuid7(),
        kind="held",
        actor=one.ask.actor,
        reason=hold,
        command_id=one.command_id,
        command_class=one.order.command_class,
        target_count=one.count,
    )
    if one.ask.cause is None:
        return alarm.along(one.ask.correlation_id, one.ask.traceparent)
    return alarm.because(one.ask.cause)
