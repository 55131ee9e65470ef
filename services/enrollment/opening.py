"""TokenUpdate: a channel tells how to wake it; the first of a generation completes the enrollment
(apple.md §1.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from services.enrollment.errors import Refused
from services.enrollment.leaving import revocation_of
from services.enrollment.quarantine import enrolled_event, enrollment_in
from services.enrollment.store import certificates, channels, enrollments, pins, states
from services.enrollment.store.channels import Channel, Tokens
from services.enrollment.store.pins import Enrollment, Pin
from shared.bus import outbox
from shared.db.batcher import Batcher
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool
from shared.events.base import Event, uuid7
from shared.events.device_state import DeviceState
from shared.events.devices import UserChannelOpened
from shared.runtime.clock import Clock
from shared.runtime.service import Sealing
from shared.sealed import LocalCipher

MAX_USERS = 50
"""User channels of one enrollment: a device must not be able to fill the table."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a TokenUpdate says; `user_kind` and `user_key` are empty on the device channel."""

    topic: str
    token: bytes
    magic: str
    user_kind: str = ""
    user_key: str = ""
    user_name: str | None = None
    unlock_token: bytes | None = None
    awaiting_configuration: bool = False


@dataclass(frozen=True, slots=True)
class _Update:
    """An opening on its way, its secrets encrypted and sealed already."""

    certificate: bytes
    device_id: UUID
    opening: Opening
    push: bytes
    push_sealed: str
    unlock_token: bytes | None
    unlock_sealed: str | None


@dataclass(frozen=True, slots=True)
class _Accepted:
    update: _Update
    enrollment: Enrollment
    channel: Channel | None
    """None: the channel is new."""

    @property
    def opens(self) -> bool:
        """Whether this is the channel's first TokenUpdate of the generation."""
        known = self.channel
        return known is None or known.open_generation != self.enrollment.generation


class Openings:
    """Stores push and unlock tokens: encrypted for us, sealed for the service that uses each."""

    def __init__(self, pool: Pool, cipher: LocalCipher, sealing: Sealing, clock: Clock) -> None:
        self._cipher, self._sealing, self._clock = cipher, sealing, clock
        self._batcher: Batcher[_Update, None] = Batcher(
            "enrollment.token_update",
            pool,
            self._flush,
            key=lambda update: update.device_id,
            lock=lock_devices,
        )

    async def open(self, pin: Pin, enrollment: Enrollment, opening: Opening) -> None:
        """Return once the channel's tokens are stored; raises Refused."""
        await self._batcher.put(self._prepared(pin, enrollment, opening))

    async def close(self) -> None:
        await self._batcher.close()

    def _prepared(self, pin: Pin, enrollment: Enrollment, opening: Opening) -> _Update:
        """The slow part, before any lock is held."""
        device_id, unlock = enrollment.device_id, opening.unlock_token
        row = f"{enrollment.enrollment_id}:{opening.user_kind}:{opening.user_key}"
        push = orjson.dumps({"token": opening.token.hex(), "magic": opening.magic})
        seal, encrypt = self._sealing.public.seal, self._cipher.encrypt
        unlock_token = unlock_sealed = None
        if unlock:
            unlock_token = encrypt(unlock, table="channel", column="unlock_token", row=row)
            unlock_sealed = seal(
                "command_queue", unlock, purpose="unlock-token", device_id=device_id
            )
        return _Update(
            certificate=pin.sha256,
            device_id=device_id,
            opening=opening,
            push=encrypt(push, table="channel", column="push", row=row),
            push_sealed=seal("push_notifier", push, purpose="push", device_id=device_id),
            unlock_token=unlock_token,
            unlock_sealed=unlock_sealed,
        )

    async def _flush(self, tx: Connection, updates: Sequence[_Update]) -> list[Exception | None]:
        current = await pins.read(tx, [update.certificate for update in updates])
        trusted = [pin.enrollment for pin in current.values() if pin.enrollment]
        known = await channels.of_enrollments(tx, [one.enrollment_id for one in trusted])
        results: list[Exception | None] = []
        accepted: list[_Accepted] = []
        for update in updates:
            try:
                accepted.append(_accept(update, current.get(update.certificate), known))
                results.append(None)
            except Refused as refused:
                results.append(refused)
        if accepted:
            await _write(tx, accepted, self._clock.now())
        return results


def _accept(update: _Update, pin: Pin | None, known: Sequence[Channel]) -> _Accepted:
    """Check again with the device locked; raises Refused."""
    if pin is None or pin.revoked or not pin.pinned or pin.enrollment is None:
        raise Refused("certificate_revoked", "the certificate was revoked meanwhile")
    enrollment, opening = pin.enrollment, update.opening
    if enrollment.state == "ended" or pin.leaving:
        raise Refused("enrollment_ended", "the enrollment has ended")
    of_enrollment = {
        (one.user_kind, one.user_key): one
        for one in known
        if one.enrollment_id == enrollment.enrollment_id
    }
    channel = of_enrollment.get((opening.user_kind, opening.user_key))
    users = sum(1 for kind, _ in of_enrollment if kind)
    if opening.user_kind and channel is None and users >= MAX_USERS:
        raise Refused("too_many_users", f"a device has at most {MAX_USERS} user channels")
    return _Accepted(update, enrollment, channel)


async def _write(tx: Connection, accepted: Sequence[_Accepted], now: datetime) -> None:
    await channels.save(tx, [_tokens(one) for one in accepted], now)
    of_devices = [one for one in accepted if not one.update.opening.user_kind]
    completed = await enrollments.complete(
        tx, [one.enrollment.enrollment_id for one in of_devices], now
    )
    shared = [
        one.enrollment.enrollment_id
        for one in accepted
        if one.update.opening.user_kind == "short_name" and one.enrollment.mode == "device"
    ]
    if shared:
        await enrollments.share(tx, shared)
    events = await _retire_old_certificates(tx, of_devices, completed, now)
    after = await states.read(tx, [one.update.device_id for one in accepted])
    by_device = {state.device_id: state for state in after}
    for one in accepted:
        events += _announcements(one, by_device[one.update.device_id], completed, now)
    await outbox.emit(tx, [*events, *after])


async def _retire_old_certificates(
    tx: Connection, of_devices: Sequence[_Accepted], completed: set[UUID], now: datetime
) -> list[Event]:
    """The new certificate works: what the enrollment was renewed from speaks for it no more."""
    renewed = [
        (one.enrollment.enrollment_id, one.enrollment.authenticated_with)
        for one in of_devices
        if one.enrollment.enrollment_id in completed and one.enrollment.generation > 1
    ]
    if not renewed:
        return []
    return [revocation_of(one) for one in await certificates.revoke_older(tx, renewed, now)]


def _announcements(
    one: _Accepted, state: DeviceState, completed: set[UUID], now: datetime
) -> list[Event]:
    enrollment_id, opening = one.enrollment.enrollment_id, one.update.opening
    if not opening.user_kind:
        if enrollment_id not in completed:
            return []
        awaiting = opening.awaiting_configuration
        return [enrolled_event(state, enrollment_id, now, awaiting_configuration=awaiting)]
    enrollment = enrollment_in(state, enrollment_id)
    channel = next(
        channel
        for channel in enrollment.channels
        if channel.kind == "user" and channel.user_key == opening.user_key
    )
    if not one.opens or not channel.open:
        return []
    return [
        UserChannelOpened(
            device_id=state.device_id,
            enrollment_id=enrollment_id,
            generation=enrollment.generation,
            channel_id=channel.channel_id,
            user_name=channel.user_name,
        )
    ]


def _tokens(one: _Accepted) -> Tokens:
    update, opening = one.update, one.update.opening
    return Tokens(
        channel_id=one.channel.channel_id if one.channel else uuid7(),
        enrollment_id=one.enrollment.enrollment_id,
        device_id=one.enrollment.device_id,
        user_kind=opening.user_kind,
        user_key=opening.user_key,
        user_name=opening.user_name,
        generation=one.enrollment.generation,
        push_topic=opening.topic,
        push=update.push,
        push_sealed=update.push_sealed,
        unlock_token=update.unlock_token,
        unlock_sealed=update.unlock_sealed,
    )
