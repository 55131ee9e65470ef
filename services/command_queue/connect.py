"""The connect endpoint: who asks, what they say, what they are answered.

Never 401 (apple.md §1.1): a device takes it as the end of management. A well-signed body that
cannot be read is answered 200, or the device would send it again for ever.
"""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, Final, cast
from uuid import UUID

from services.command_queue import metrics
from services.command_queue.apple import answers
from services.command_queue.apple.answers import Answer, AnswerError
from services.command_queue.delivery import Delivery
from services.command_queue.errors import PeerRefused
from services.command_queue.identity import Identity
from services.command_queue.presence import Presence
from services.command_queue.store import speakers
from services.command_queue.store.speakers import Speaker
from services.command_queue.turn import Turn
from shared.apple import cms, identifiers, plist
from shared.bus.tracing import current_traceparent
from shared.db.batcher import Overloaded
from shared.db.pool import Pool, transaction

MAX_ANSWER: Final = 16 * 1024 * 1024
MAX_STREAM: Final = 64 * 1024 * 1024
# Above this a body is parsed beside the event loop, and few are in memory at once.
LARGE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """What arrived: the Mdm-Signature header, and the body, or a file with one that is too long."""

    signature: str
    body: bytes = b""
    stream: IO[bytes] | None = None


class Connect:
    """Serves one request after another; all state is in the database."""

    def __init__(
        self,
        pool: Pool,
        identity: Identity,
        delivery: Delivery,
        presence: Presence,
        large_bodies: int,
    ) -> None:
        self._pool, self._identity, self._delivery = pool, identity, delivery
        self._presence = presence
        self.large = asyncio.Semaphore(large_bodies)
        """Held by the transport for as long as a large body is in memory."""

    async def expect(self, signature: str) -> None:
        """Let a large body come from whom we know by certificate; nothing is proven yet.

        Few are taken at a time: strangers must not hold those places with bodies that trickle in.
        Raises PeerRefused, and Overloaded for a device that may be ahead of its event.
        """
        if await self._identity.find(self._signature(Request(signature))) is None:
            raise Overloaded("a large body from a certificate that nobody is pinned to")

    async def serve(self, request: Request) -> bytes:
        """Return the document to hand out, empty when there is none.

        Raises PeerRefused (a short 400) and Overloaded (503).
        """
        try:
            signed = self._signature(request)
            speaker = await self._identity.find(signed)
            await self._prove(signed, request)
            if speaker is None:
                await self._judge_stranger(signed, request)
                metrics.POLLS.labels("stranger").inc()
                return b""
            return await self._serve(speaker, request)
        except PeerRefused as error:
            metrics.REFUSED.labels(error.code.partition(":")[0]).inc()
            raise

    def _signature(self, request: Request) -> cms.Signed:
        try:
            return cms.decode(request.signature)
        except cms.SignatureError as error:
            raise PeerRefused(f"signature: {error.reason}") from None

    async def _prove(self, signed: cms.Signed, request: Request) -> None:
        if request.stream is not None:
            await asyncio.to_thread(self._prove_stream, signed, request.stream)
        elif len(request.body) > LARGE:
            await asyncio.to_thread(self._identity.prove, signed, request.body)
        else:
            self._identity.prove(signed, request.body)

    def _prove_stream(self, signed: cms.Signed, stream: IO[bytes]) -> None:
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            # Read through the page cache: nothing of it needs to be in our memory at once.
            self._identity.prove(signed, cast("bytes", mapped))

    async def _judge_stranger(self, signed: cms.Signed, request: Request) -> None:
        """Let a device of our CA pass that is ahead of an event; raises PeerRefused otherwise."""
        if not await self._identity.is_ours(signed):
            raise PeerRefused("certificate unknown")
        if request.stream is not None:
            return
        try:
            body = await _parse(request.body)
            named = identifiers.channel_of(body)
        except (plist.PlistError, identifiers.IdentifierError):
            return
        if "MessageType" in body:
            raise PeerRefused("check-ins go to the other address")
        if not await self._identity.knows(named.device_key):
            return
        # The event may have come between the two looks: only a pin that is still missing tells.
        if await self._identity.find(signed) is None:
            raise PeerRefused("certificate not pinned to this device")

    async def _serve(self, speaker: Speaker, request: Request) -> bytes:
        if speaker.state == "ended":
            raise PeerRefused("enrollment ended")
        if speaker.state != "quarantined":
            # Who waits in the lobby may be impersonating the device: it was not seen by this.
            self._presence.note(speaker.device_id)
        if request.stream is not None:
            metrics.TOO_LARGE.labels("failed").inc()
            return await self._spoil(speaker, None, "the answer is larger than 16 MiB")
        try:
            body = await _parse(request.body)
        except plist.PlistError as error:
            return await self._spoil(speaker, None, f"unreadable answer: {error.reason}")
        if "MessageType" in body:
            raise PeerRefused("check-ins go to the other address")
        try:
            named = identifiers.channel_of(body)
        except identifiers.IdentifierError as error:
            return await self._spoil(speaker, None, f"unreadable answer: {error.reason}")
        if speaker.udid is not None and named.device_key != speaker.udid:
            raise PeerRefused("certificate of another device")
        return await self._speak(speaker, named, body)

    async def _speak(
        self, speaker: Speaker, named: identifiers.Channel, body: Mapping[str, Any]
    ) -> bytes:
        """Take what a proven channel says, and hand it what waits for it."""
        if speaker.state != "enrolled":
            # Before TokenUpdate nothing is served (apple.md §1.11 point 1), and what was handed
            # out before is settled by the fence.
            return _answered("not enrolled yet")
        channel_id: UUID | None = speaker.channel_id
        is_open, may_have_work = speaker.open, speaker.work
        if named.user_key is not None:
            channel_id, is_open = await self._user_channel(speaker, named.user_key)
            may_have_work = True
        if channel_id is None or not is_open:
            return _answered("no channel yet")
        try:
            answer = answers.read(body)
        except AnswerError as error:
            return await self._spoil(speaker, channel_id, f"unreadable answer: {error.reason}")
        return await self._take(speaker, channel_id, answer, may_have_work=may_have_work)

    async def _take(
        self, speaker: Speaker, channel_id: UUID, answer: Answer, *, may_have_work: bool
    ) -> bytes:
        if answer.idle and not may_have_work:
            return _answered("nothing to do")
        turn = Turn(
            speaker.device_id,
            speaker.enrollment_id,
            channel_id,
            answer,
            traceparent=current_traceparent(),
        )
        document = await self._delivery.take(turn)
        metrics.POLLS.labels("handed out" if document else "nothing to do").inc()
        return document

    async def _spoil(self, speaker: Speaker, channel_id: UUID | None, why: str) -> bytes:
        """End what the device was handed, and let it go: it would send the same again for ever."""
        metrics.MALFORMED.labels(why.partition(":")[0]).inc()
        turn = Turn(speaker.device_id, speaker.enrollment_id, channel_id, spoilt=why[:300])
        await self._delivery.take(turn)
        return _answered("unreadable")

    async def _user_channel(self, speaker: Speaker, user_key: str) -> tuple[UUID | None, bool]:
        async with transaction(self._pool) as tx:
            found = await speakers.user_channel(tx, speaker.enrollment_id, user_key)
        return found or (None, False)


async def _parse(body: bytes) -> dict[str, Any]:
    if len(body) > LARGE:
        return await asyncio.to_thread(plist.parse, body)
    return plist.parse(body)


def _answered(result: str) -> bytes:
    metrics.POLLS.labels(result).inc()
    return b""
