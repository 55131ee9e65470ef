"""Check-ins: who speaks, what they say, what they are answered (apple.md §1.2).

Success is exactly 200. A refusal is a short 400 and never 401, which would end a device's
management; what may pass by itself is a 503.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from services.enrollment import declarations, leaving, metrics
from services.enrollment.addresses import Network, source_of
from services.enrollment.apple import messages
from services.enrollment.apple.messages import (
    Authenticate,
    CheckOut,
    DeclarativeManagement,
    GetBootstrapToken,
    GetToken,
    Message,
    MessageError,
    ReturnToService,
    SetBootstrapToken,
    TokenUpdate,
    UserAuthenticate,
)
from services.enrollment.arrivals import Arrivals
from services.enrollment.claims import claim_of
from services.enrollment.errors import Refused
from services.enrollment.escrow import Escrow
from services.enrollment.identity import Identities
from services.enrollment.leaving import Leaving
from services.enrollment.opening import Opening, Sealer
from services.enrollment.refusals import Refusals
from services.enrollment.store.pins import Enrollment, Pin
from shared.apple import plist
from shared.apple.identifiers import Channel
from shared.apple.plist import PlistError
from shared.db.locks import lock_devices
from shared.db.pool import Pool, transaction
from shared.runtime.clock import Clock
from shared.runtime.internal import InternalClient
from shared.runtime.jobs import Wake

_XML, _JSON, _TEXT = "application/xml", "application/json", "text/plain"


@dataclass(frozen=True, slots=True)
class Reply:
    """An empty body is sent as one of no bytes."""

    status: int = 200
    body: bytes = b""
    content_type: str = _XML


_DONE = Reply()
# The user is not managed in this login (Apple, User Authenticate).
_DECLINED = Reply(410, b"declined\n", _TEXT)
# No profile of ours names com.apple.mdm.token, so no device is promised a token.
_NO_TOKEN_SERVICE = Reply(404, b"no_token_service\n", _TEXT)


class CheckIns:
    """Answers the check-in endpoint."""

    def __init__(
        self,
        pool: Pool,
        internal: InternalClient,
        clock: Clock,
        *,
        identities: Identities,
        arrivals: Arrivals,
        sealer: Sealer,
        escrow: Escrow,
        refusals: Refusals,
        departed: Wake,
        uncounted: Sequence[Network] = (),
    ) -> None:
        self._pool, self._internal, self._clock = pool, internal, clock
        self._identities, self._arrivals, self._sealer = identities, arrivals, sealer
        self._escrow, self._refusals = escrow, refusals
        self._departed, self._uncounted = departed, uncounted

    async def answer(self, signature: str | None, body: bytes, peer: str | None = None) -> Reply:
        """Answer one check-in; whatever is wrong with it becomes a bounded refusal.

        `peer` is the other end of the connection. Raises InternalCallFailed and Overloaded: both
        mean 503.
        """
        started, name = time.perf_counter(), "unread"
        outcome = "failed"
        try:
            proof = await self._identities.prove(signature, body)
            message = messages.parse(plist.parse(body, limits=messages.LIMITS))
            name = type(message).__name__
            looks_again = isinstance(message, TokenUpdate)
            pin = proof.pin if looks_again else await self._identities.afresh(proof)
            reply = await self._dispatch(pin, message, peer)
            outcome = "done" if reply.status == _DONE.status else "declined"
        except Refused as refused:
            outcome = refused.code
            reply = Reply(400, f"{refused.code}\n".encode(), _TEXT)
        except (PlistError, MessageError) as error:
            outcome = "malformed"
            reply = Reply(400, f"malformed: {error.reason}\n".encode(), _TEXT)
        finally:
            metrics.CHECKINS.labels(name, outcome).inc()
            metrics.CHECKIN_SECONDS.labels(name).observe(time.perf_counter() - started)
        return reply

    async def _dispatch(self, pin: Pin, message: Message, peer: str | None) -> Reply:
        if isinstance(message, Authenticate):
            return await self._authenticate(pin, message, peer)
        enrollment = _speaker(pin, message.channel)
        reply = _DONE
        match message:
            case TokenUpdate():
                await self._token_update(pin, enrollment, message)
            case CheckOut():
                await self._check_out(enrollment)
            case SetBootstrapToken():
                await self._escrow.keep(pin, enrollment, message.token)
            case GetBootstrapToken():
                token = await self._escrow.give_back(enrollment)
                reply = Reply(body=messages.bootstrap_token(token))
            case UserAuthenticate():
                reply = _DECLINED
            case GetToken():
                reply = _NO_TOKEN_SERVICE
            case ReturnToService():
                reply = Reply(body=messages.no_return_to_service())
            case DeclarativeManagement():
                reply = await self._declarative_management(enrollment, message)
        return reply

    async def _authenticate(self, pin: Pin, message: Authenticate, peer: str | None) -> Reply:
        claim = claim_of(message, source_of(peer, self._uncounted))
        try:
            self._identities.remember(await self._arrivals.begin(pin, claim))
        except Refused as refused:
            credential = pin.grant.credential_id if pin.grant else None
            await self._refusals.record(
                "authenticate", refused.code, credential, certificate=pin.sha256, claim=claim
            )
            raise
        return _DONE

    async def _token_update(self, pin: Pin, enrollment: Enrollment, message: TokenUpdate) -> None:
        channel = message.channel
        opening = Opening(
            topic=message.topic,
            token=message.token,
            magic=message.push_magic,
            user_kind=channel.user_kind or "",
            user_key=channel.user_key or "",
            user_name=message.user_short_name or message.user_long_name,
            unlock_token=message.unlock_token if enrollment.mode == "device" else None,
            awaiting_configuration=message.awaiting_configuration,
        )
        await self._arrivals.open(self._sealer.update(pin, enrollment, opening))

    async def _check_out(self, enrollment: Enrollment) -> None:
        """It comes only once: stored whatever else is down, told to command_queue by a job."""
        async with transaction(self._pool) as tx:
            await lock_devices(tx, [enrollment.device_id])
            gone = Leaving(enrollment.enrollment_id, "check_out")
            await leaving.end_and_tell(tx, [gone], self._clock.now())
        self._departed.set()

    async def _declarative_management(
        self, enrollment: Enrollment, message: DeclarativeManagement
    ) -> Reply:
        if enrollment.state != "enrolled":
            raise Refused("not_enrolled", "the enrollment is not complete")
        declared = await declarations.ask(self._internal, enrollment, message)
        return Reply(declared.status, declared.body, _JSON)


def _speaker(pin: Pin, channel: Channel) -> Enrollment:
    """The enrollment a proven certificate speaks for; the ids in the body are only compared."""
    enrollment = pin.enrollment
    if enrollment is None or not pin.pinned:
        raise Refused("not_authenticated", "the certificate has not been used for Authenticate")
    if enrollment.state == "ended" or pin.leaving:
        raise Refused("enrollment_ended", "the enrollment has ended")
    if (channel.device_kind, channel.device_key) != (enrollment.id_kind, enrollment.udid):
        raise Refused("certificate_of_another", "the certificate belongs to another enrollment")
    return enrollment
