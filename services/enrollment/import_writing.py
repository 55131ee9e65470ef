"""What an import writes: devices, enrollments, channels, pins and secrets, a statement for each
kind, and the events that tell of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from services.enrollment.facts import facts_of
from services.enrollment.import_rows import Candidate, Identity
from services.enrollment.import_verdicts import Verdict
from services.enrollment.lifecycle import Decision
from services.enrollment.opening import Opening, Sealer, tokens
from services.enrollment.quarantine import enrollment_in
from services.enrollment.store import (
    certificates,
    channels,
    devices,
    enrollments,
    imports,
    sessions,
    states,
)
from services.enrollment.store.certificates import Certificate
from services.enrollment.store.channels import Tokens
from services.enrollment.store.enrollments import Begun
from services.enrollment.store.pins import Pin
from services.enrollment.store.sessions import Registration
from shared.bus import outbox
from shared.db.pool import Connection
from shared.events.base import Event, uuid7
from shared.events.device_state import DeviceState
from shared.events.devices import BootstrapTokenChanged, CertificateIssued, DeviceImported
from shared.runtime.service import Sealing
from shared.sealed import LocalCipher


@dataclass(frozen=True, slots=True)
class Writing:
    """Who imports, when, and whether inventory is to ask soon."""

    actor: str
    now: datetime
    refresh: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """A row to be enrolled, its secrets encrypted and sealed already."""

    row: Candidate
    decision: Decision
    pin: Pin | None
    """The registration that this completes."""
    tokens: Tokens = field(repr=False)
    bootstrap_token: bytes | None = field(repr=False)

    @property
    def session_id(self) -> UUID | None:
        """Of the registration that this completes."""
        return self.pin.grant.session_id if self.pin and self.pin.grant else None

    @property
    def holder(self) -> UUID:
        return self.session_id or self.decision.enrollment_id


class Secrets:
    """Encrypts tokens for us and seals them for the service that uses each."""

    def __init__(self, cipher: LocalCipher, sealing: Sealing) -> None:
        self._cipher, self._sealer = cipher, Sealer(cipher, sealing)

    def close_all(self, verdicts: Iterable[Verdict]) -> list[Ready]:
        """The slow part; safe beside the event loop."""
        ready = []
        for one in verdicts:
            row, decision = one.candidate, one.decision
            if one.outcome == "enrolled" and row and decision and row.opening:
                ready.append(
                    Ready(
                        row,
                        decision,
                        one.pin,
                        self._tokens(decision, row.opening),
                        self._bootstrap_token(decision, row.bootstrap_token),
                    )
                )
        return ready

    def _tokens(self, decision: Decision, opening: Opening) -> Tokens:
        enrollment_id, device_id = decision.enrollment_id, decision.device_id
        return tokens(
            opening,
            self._sealer.seal(opening, enrollment_id, device_id),
            channel_id=uuid7(),
            enrollment_id=enrollment_id,
            device_id=device_id,
            generation=decision.generation,
        )

    def _bootstrap_token(self, decision: Decision, token: bytes | None) -> bytes | None:
        if token is None:
            return None
        row = str(decision.enrollment_id)
        return self._cipher.encrypt(token, table="enrollment", column="bootstrap_token", row=row)


async def write(
    tx: Connection, ready: Sequence[Ready], verdicts: Sequence[Verdict], writing: Writing
) -> None:
    """Write enrolled and registered rows; hardware and devices are locked already."""
    await _register(tx, [v.candidate for v in verdicts if v.outcome == "registered"], writing.now)
    if ready:
        await _enroll(tx, ready, writing)


async def _register(tx: Connection, rows: Sequence[Candidate | None], now: datetime) -> None:
    registered = [(row, uuid7(now)) for row in rows if row]
    if not registered:
        return
    await sessions.register(
        tx,
        [
            Registration(
                session_id=session_id,
                certificate_sha256=row.identity.sha256,
                id_kind=row.claim.id_kind,
                udid=row.claim.udid,
                serial=row.claim.serial,
                platform=row.platform,
                ownership=row.ownership,
                user_name=row.user_name,
                access_rights=row.access_rights,
            )
            for row, session_id in registered
        ],
        now,
    )
    await certificates.add_all(
        tx, [_certificate(row.identity, now, session_id) for row, session_id in registered]
    )
    await _keep_profiles(tx, registered)


async def _enroll(tx: Connection, ready: Sequence[Ready], writing: Writing) -> None:
    now = writing.now
    begun = [_begun(one) for one in ready]
    await devices.save(tx, [facts_of(one) for one in begun], now)
    await certificates.add_all(
        tx,
        [
            _certificate(one.row.identity, now, None, one.decision)
            for one in ready
            if one.pin is None
        ],
    )
    await enrollments.begin(tx, begun, now)
    await channels.open_all(tx, [one.tokens for one in ready], now)
    escrowed = [
        (one.decision.enrollment_id, one.bootstrap_token) for one in ready if one.bootstrap_token
    ]
    if escrowed:
        await enrollments.set_bootstrap_tokens(tx, escrowed)
    await _keep_profiles(tx, [(one.row, one.holder) for one in ready])
    after = await states.read(tx, [one.decision.device_id for one in ready])
    by_device = {state.device_id: state for state in after}
    told = [event for one in ready for event in _events(one, by_device, writing)]
    await outbox.emit(tx, [*told, *after])


async def _keep_profiles(tx: Connection, rows: Sequence[tuple[Candidate, UUID]]) -> None:
    installed = [
        (holder, row.profile.model_dump(exclude_none=True)) for row, holder in rows if row.profile
    ]
    if installed:
        await imports.keep_profiles(tx, installed)


def _certificate(
    identity: Identity, now: datetime, session_id: UUID | None, decision: Decision | None = None
) -> Certificate:
    return Certificate(
        sha256=identity.sha256,
        serial_number=identity.serial_number,
        authority=None,
        key_sha256=identity.key_sha256,
        der=identity.der,
        not_before=identity.not_before,
        not_after=identity.not_after,
        session_id=session_id,
        device_id=decision.device_id if decision else None,
        enrollment_id=decision.enrollment_id if decision else None,
        issued_at=now,
    )


def _begun(one: Ready) -> Begun:
    row, decision = one.row, one.decision
    claim = row.claim
    return Begun(
        enrollment_id=decision.enrollment_id,
        device_id=decision.device_id,
        generation=decision.generation,
        state="pending",
        mode=claim.mode,
        id_kind=claim.id_kind,
        udid=claim.udid,
        session_id=one.session_id,
        credential_id=None,
        ownership=row.ownership,
        user_name=row.user_name,
        access_rights=row.access_rights,
        claimed={"platform": claim.platform, "serial": claim.serial, **claim.facts},
        reasons=[],
        authenticated_with=row.identity.sha256,
    )


def _events(one: Ready, states_of: dict[UUID, DeviceState], writing: Writing) -> list[Event]:
    decision, identity = one.decision, one.row.identity
    state = states_of[decision.device_id]
    enrollment = enrollment_in(state, decision.enrollment_id)
    events: list[Event] = [
        CertificateIssued(
            device_id=decision.device_id,
            sha256=identity.sha256.hex(),
            serial_number=identity.serial_number,
            not_after=identity.not_after,
            imported=True,
        ),
        DeviceImported(
            device_id=decision.device_id,
            enrollment_id=decision.enrollment_id,
            generation=enrollment.generation,
            channel_id=one.tokens.channel_id,
            platform=state.platform,
            ownership=state.ownership,
            serial=state.serial,
            model=state.model,
            product=state.product,
            os_version=state.os_version,
            build=state.build,
            name=state.name,
            refresh=writing.refresh,
            actor=writing.actor,
            imported_at=writing.now,
        ),
    ]
    if one.bootstrap_token:
        events.append(
            BootstrapTokenChanged(
                device_id=decision.device_id, enrollment_id=decision.enrollment_id, escrowed=True
            )
        )
    return events
