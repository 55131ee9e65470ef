"""TokenUpdate: a channel tells how to wake it; the first of a generation completes the enrollment
(apple.md §1.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from services.enrollment.errors import Refused
from services.enrollment.leaving import revocation_of
from services.enrollment.quarantine import enrolled_event, enrollment_in
from services.enrollment.store import certificates, channels, enrollments
from services.enrollment.store.channels import Channel, Tokens
from services.enrollment.store.pins import Enrollment, Pin, Standing
from shared.bus.context import Trail, trail
from shared.db.pool import Connection
from shared.events.base import Event, uuid7
from shared.events.device_state import DeviceState
from shared.events.devices import UserChannelOpened
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
class Sealed:
    """An opening's tokens, encrypted for us and sealed for the service that uses each."""

    push: bytes
    push_sealed: str
    unlock_token: bytes | None
    unlock_sealed: str | None


@dataclass(frozen=True, slots=True)
class Update:
    """An opening on its way."""

    certificate: bytes
    device_id: UUID
    udid: str
    opening: Opening
    sealed: Sealed
    trail: Trail


@dataclass(frozen=True, slots=True)
class Accepted:
    update: Update
    enrollment: Enrollment
    channel: Channel | None
    """Of a user: None says that it is new. The device's own one is not looked up."""

    @property
    def device_id(self) -> UUID:
        return self.enrollment.device_id

    @property
    def trail(self) -> Trail:
        return self.update.trail

    @property
    def newcomer(self) -> bool:
        """What a device lacked are its tokens, and here they are."""
        return False

    @property
    def opens(self) -> bool:
        """Whether this is a user channel's first TokenUpdate of the generation."""
        known = self.channel
        return known is None or known.open_generation != self.enrollment.generation


class Sealer:
    """Makes tokens ready to be stored, before any lock is held: it is the slow part.

    A token is sealed once, however often it is told of later.
    """

    def __init__(self, cipher: LocalCipher, sealing: Sealing) -> None:
        self._cipher, self._sealing = cipher, sealing

    def update(self, pin: Pin, enrollment: Enrollment, opening: Opening) -> Update:
        """What a check-in brings, in the trail of its request."""
        return Update(
            certificate=pin.sha256,
            device_id=enrollment.device_id,
            udid=enrollment.udid,
            opening=opening,
            sealed=self.seal(opening, enrollment.enrollment_id, enrollment.device_id),
            trail=trail(),
        )

    def seal(self, opening: Opening, enrollment_id: UUID, device_id: UUID) -> Sealed:
        """The tokens of a channel of this enrollment."""
        unlock = opening.unlock_token
        row = f"{enrollment_id}:{opening.user_kind}:{opening.user_key}"
        push = orjson.dumps({"token": opening.token.hex(), "magic": opening.magic})
        seal, encrypt = self._sealing.public.seal, self._cipher.encrypt
        unlock_token = unlock_sealed = None
        if unlock:
            unlock_token = encrypt(unlock, table="channel", column="unlock_token", row=row)
            unlock_sealed = seal(
                "command_queue", unlock, purpose="unlock-token", device_id=device_id
            )
        return Sealed(
            push=encrypt(push, table="channel", column="push", row=row),
            push_sealed=seal("push_notifier", push, purpose="push", device_id=device_id),
            unlock_token=unlock_token,
            unlock_sealed=unlock_sealed,
        )


async def channels_behind(
    tx: Connection, standings: Sequence[Standing | None]
) -> Sequence[Channel]:
    """The channels of these enrollments: how many users they have, and which."""
    concerned = [one.pin.enrollment for one in standings if one and one.pin.enrollment]
    if not concerned:
        return []
    return await channels.of_enrollments(tx, [one.enrollment_id for one in concerned])


def accept(update: Update, standing: Standing | None, known: Sequence[Channel]) -> Accepted:
    """Check again with the device locked; raises Refused."""
    pin = standing.pin if standing else None
    if pin is None or pin.revoked or not pin.pinned or pin.enrollment is None:
        raise Refused("certificate_revoked", "the certificate was revoked meanwhile")
    enrollment, opening = pin.enrollment, update.opening
    if enrollment.state == "ended" or pin.leaving:
        raise Refused("enrollment_ended", "the enrollment has ended")
    users = {
        (one.user_kind, one.user_key): one
        for one in known
        if one.enrollment_id == enrollment.enrollment_id and one.user_kind
    }
    channel = users.get((opening.user_kind, opening.user_key))
    if opening.user_kind and channel is None and len(users) >= MAX_USERS:
        raise Refused("too_many_users", f"a device has at most {MAX_USERS} user channels")
    return Accepted(update, enrollment, channel)


async def write(tx: Connection, accepted: Sequence[Accepted], now: datetime) -> Written:
    """Store what these TokenUpdates bring."""
    completed = await channels.open_all(tx, [_tokens(one) for one in accepted], now)
    shared = [
        one.enrollment.enrollment_id
        for one in accepted
        if one.update.opening.user_kind == "short_name" and one.enrollment.mode == "device"
    ]
    if shared:
        await enrollments.share(tx, shared)
    revoked = await _retire_old_certificates(tx, accepted, completed, now)
    return Written(accepted, completed, revoked, now)


@dataclass(frozen=True, slots=True)
class Written:
    """What a batch of TokenUpdates changed."""

    accepted: Sequence[Accepted]
    completed: set[UUID]
    revoked: Sequence[Event]
    now: datetime

    def events(self, after: Mapping[UUID, DeviceState]) -> list[Event]:
        """What there is to tell, given the states that the devices have now."""
        events = list(self.revoked)
        for one in self.accepted:
            events += _announcements(one, after[one.device_id], self.completed, self.now)
        return events


async def _retire_old_certificates(
    tx: Connection, accepted: Sequence[Accepted], completed: set[UUID], now: datetime
) -> list[Event]:
    """The new certificate works: what the enrollment was renewed from speaks for it no more."""
    renewed = [
        (one.enrollment.enrollment_id, one.enrollment.authenticated_with)
        for one in accepted
        if one.enrollment.enrollment_id in completed and one.enrollment.generation > 1
    ]
    if not renewed:
        return []
    return [revocation_of(one) for one in await certificates.revoke_older(tx, renewed, now)]


def _announcements(
    one: Accepted, state: DeviceState, completed: set[UUID], now: datetime
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


def _tokens(one: Accepted) -> Tokens:
    return tokens(
        one.update.opening,
        one.update.sealed,
        channel_id=one.channel.channel_id if one.channel else uuid7(),
        enrollment_id=one.enrollment.enrollment_id,
        device_id=one.enrollment.device_id,
        generation=one.enrollment.generation,
    )


def tokens(
    opening: Opening,
    sealed: Sealed,
    *,
    channel_id: UUID,
    enrollment_id: UUID,
    device_id: UUID,
    generation: int,
) -> Tokens:
    """What is stored of an opening."""
    return Tokens(
        channel_id=channel_id,
        enrollment_id=enrollment_id,
        device_id=device_id,
        user_kind=opening.user_kind,
        user_key=opening.user_key,
        user_name=opening.user_name,
        generation=generation,
        push_topic=opening.topic,
        push=sealed.push,
        push_sealed=sealed.push_sealed,
        unlock_token=sealed.unlock_token,
        unlock_sealed=sealed.unlock_sealed,
    )
