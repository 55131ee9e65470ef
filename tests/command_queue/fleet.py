"""Devices for tests: real keys, certificates and signatures, and nothing of the simulator."""

from __future__ import annotations

import base64
import io
import plistlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.apple import cms
from shared.events import Event, Meta, uuid7
from shared.events.commands import (
    CommandFinished,
    CommandQueued,
)
from shared.events.device_state import (
    AuthorityPublished,
    ChannelState,
    DeviceState,
    EnrollmentState,
)
from shared.events.devices import Ownership, Platform
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Answer, Trial

CONNECT = "/mdm/apple/connect"

# Devices whose row says that commands may be placed without a look, where a look would say
# otherwise (docs/decisions/0027-plain-targets-are-placed-by-the-database.md).
ASTRAY = """
SELECT d.device_id FROM device AS d
LEFT JOIN channel AS h ON h.channel_id = d.channel_id
LEFT JOIN enrollment AS e ON e.enrollment_id = d.current_enrollment
WHERE d.plain_after IS NOT NULL AND (
    h.kind = 'device' AND h.device_id = d.device_id AND h.enrollment_id = e.enrollment_id
    AND e.state = 'enrolled' AND e.generation = d.generation AND d.known
    AND d.plain_after >= e.ordinal
    AND NOT EXISTS (
        SELECT FROM fence AS f WHERE f.enrollment_id = e.enrollment_id
        AND (f.ordinal > d.plain_after OR NOT f.shown)
    )
) IS NOT TRUE
"""


# For tests that are not about the guard and do more than a day's harm.
NO_BUDGETS = {
    f"MUSTER_COMMAND_QUEUE_{name}": '[{"minutes": 60, "least": 100000}]'
    for name in (
        "DESTRUCTIVE_OF_ALL",
        "DESTRUCTIVE_OF_ACTOR",
        "DISRUPTIVE_OF_ALL",
        "DISRUPTIVE_OF_ACTOR",
    )
}


@dataclass(frozen=True)
class Told:
    """A target of which was told that work waits for it."""

    command_id: UUID
    device_id: UUID
    channel_id: UUID
    meta: Meta


@dataclass(frozen=True)
class Identity:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def header(self, body: bytes, at: datetime) -> str:
        """The Mdm-Signature of a body."""
        signed = cms.sign(body, self.certificate, self.key, detached=True, at=at)
        return base64.b64encode(signed).decode()


class Authority:
    """A CA that issues device identities."""

    def __init__(self, now: datetime, name: str = "Devices") -> None:
        self._now = now
        key = ec.generate_private_key(ec.SECP256R1())
        self.identity = Identity(self._certificate(name, key, None, ca=True), key)

    def issue(
        self, name: str, *, client: bool = True, expires: timedelta = timedelta(days=365)
    ) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        return Identity(
            self._certificate(name, key, self.identity, client=client, expires=expires), key
        )

    def _certificate(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: Identity | None,
        *,
        ca: bool = False,
        client: bool = True,
        expires: timedelta = timedelta(days=365),
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - timedelta(days=400))
            .not_valid_after(self._now + expires)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if client and not ca:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
            builder = builder.add_extension(usage, critical=False)
        return builder.sign(issuer.key if issuer else key, hashes.SHA256())

    def published(self) -> AuthorityPublished:
        return AuthorityPublished(authority="device-identity", certificates=[self.identity.pem])


@dataclass(frozen=True)
class Given:
    """What a device was handed."""

    command_uuid: str
    command: dict[str, Any]

    @property
    def request_type(self) -> str:
        return str(self.command["RequestType"])

    @property
    def command_id(self) -> UUID:
        return UUID(self.command_uuid)


@dataclass
class Phone:
    """One device, and what enrollment would say of it."""

    fleet: Fleet
    identity: Identity
    udid: str
    device_id: UUID = field(default_factory=uuid7)
    enrollment_id: UUID = field(default_factory=uuid7)
    channel_id: UUID = field(default_factory=uuid7)
    generation: int = 1
    state: str = "enrolled"
    open: bool = True
    platform: Platform = Platform.IOS
    ownership: Ownership = Ownership.CORPORATE
    os_version: str | None = "17.5"
    mode: str = "device"
    supervised: bool | None = True
    access_rights: int | None = 8191
    unlock_token: bytes | None = None
    users: dict[str, UUID] = field(default_factory=dict)

    def told(self, *former: Phone, deleted: bool = False) -> DeviceState:
        """The device-state event of this moment; `former` are earlier enrollments."""
        return DeviceState(
            device_id=self.device_id,
            platform=self.platform,
            ownership=self.ownership,
            os_version=self.os_version,
            enrollments=[] if deleted else [one._enrollment() for one in (self, *former)],
            current_enrollment=None if self.state == "ended" else self.enrollment_id,
            deleted=deleted,
        )

    def _enrollment(self) -> EnrollmentState:
        return EnrollmentState(
            enrollment_id=self.enrollment_id,
            generation=self.generation,
            state=cast("Any", self.state),
            mode=cast("Any", self.mode),
            supervised=self.supervised,
            access_rights=self.access_rights,
            udid=self.udid,
            pins=[self.identity.fingerprint],
            channels=[
                ChannelState(
                    channel_id=self.channel_id,
                    kind="device",
                    open=self.open,
                    unlock_token=self._sealed_token(),
                ),
                *(
                    ChannelState(channel_id=channel, kind="user", user_key=user, open=self.open)
                    for user, channel in self.users.items()
                ),
            ],
            authenticated_at=self.fleet.clock.now(),
        )

    def _sealed_token(self) -> str | None:
        if self.unlock_token is None:
            return None
        public = self.fleet.trial.context.sealing.public
        return public.seal(
            "command_queue", self.unlock_token, purpose="unlock-token", device_id=self.device_id
        )

    async def tell(self, *, deleted: bool = False) -> None:
        """Let command_queue hear of the device as it is now."""
        await self.fleet.trial.hears(self.told(deleted=deleted), service="enrollment")

    def body(self, status: str, command_uuid: str | None = None, **keys: Any) -> bytes:
        named = {} if command_uuid is None else {"CommandUUID": command_uuid}
        return plistlib.dumps({"Status": status, "UDID": self.udid, **named, **keys})

    async def send(
        self,
        body: bytes,
        *,
        identity: Identity | None = None,
        at: datetime | None = None,
        method: str = "PUT",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        signer = identity or self.identity
        signature = signer.header(body, at or self.fleet.clock.now())
        return await self.fleet.trial.send(
            "devices",
            method,
            CONNECT,
            sendable(body),
            {"Mdm-Signature": signature, **(headers or {})},
        )

    async def say(self, status: str, command_uuid: str | None = None, **keys: Any) -> Given | None:
        """Report a status and return what is handed out; nothing but 200 is expected."""
        answer = await self.send(self.body(status, command_uuid, **keys))
        assert answer.status == 200, answer.body
        return given(answer)

    async def idle(self, **keys: Any) -> Given | None:
        return await self.say("Idle", **keys)

    async def drain(self) -> list[Given]:
        """Come, and acknowledge everything that is handed out."""
        found = []
        one = await self.idle()
        while one is not None:
            found.append(one)
            one = await self.say("Acknowledged", one.command_uuid)
        return found


def sendable(body: bytes) -> bytes:
    """aiohttp's client warns of large bodies that are not files."""
    return cast("bytes", io.BytesIO(body)) if len(body) > 500_000 else body


def given(answer: Answer) -> Given | None:
    if not answer.body:
        return None
    document = plistlib.loads(answer.body)
    assert document.keys() == {"Command", "CommandUUID"}
    return Given(document["CommandUUID"], document["Command"])


class Fleet:
    """A running command_queue with devices that it knows."""

    def __init__(self, trial: Trial, clock: FixedClock) -> None:
        self.trial, self.clock = trial, clock
        self.authority = Authority(clock.now())
        self._keys = 0

    async def publish(self) -> None:
        await self.trial.hears(self.authority.published(), service="enrollment")

    def phone(self, **fields: Any) -> Phone:
        """A device with a certificate of our CA that command_queue has not heard of."""
        udid = fields.pop("udid", None) or str(uuid7()).upper()
        identity = fields.pop("identity", None) or self.authority.issue(udid)
        return Phone(self, identity, udid, **fields)

    async def enroll(self, count: int | None = None, **fields: Any) -> Any:
        """One enrolled device, or a list of them."""
        phones = [self.phone(**fields) for _ in range(count or 1)]
        await self.trial.hears(*(phone.told() for phone in phones), service="enrollment")
        return phones[0] if count is None else phones

    async def ask(
        self,
        *phones: Phone,
        kind: str = "inventory.refresh",
        params: dict[str, Any] | None = None,
        expand: bool = True,
        status: int = 202,
        **fields: Any,
    ) -> dict[str, Any]:
        """Ask for a command through the API, and put it into the queues."""
        self._keys += 1
        if params is None:
            params = {"section": "security"} if kind == "inventory.refresh" else {}
        answer = await self.trial.call(
            "POST",
            "/api/v1/commands",
            {
                "kind": kind,
                "params": params,
                "device_ids": [str(phone.device_id) for phone in phones],
                "idempotency_key": f"key {self._keys}",
                **fields,
            },
        )
        assert answer.status == status, answer.body
        if expand:
            await self.job("expand targets")
        return cast("dict[str, Any]", answer.json)

    async def job(self, name: str) -> None:
        """Run a job until it has nothing left to do."""
        while await self.trial.run_job(name):
            pass

    async def fence(self, phone: Phone, generation: int, state: str = "reauthenticated") -> Answer:
        return await self.trial.call(
            "POST",
            "/internal/v1/commands/fence",
            {
                "enrollment_id": str(phone.enrollment_id),
                "device_id": str(phone.device_id),
                "generation": generation,
                "state": state,
            },
            as_service="enrollment",
        )

    async def show(self, command_id: str) -> dict[str, Any]:
        answer = await self.trial.call("GET", f"/api/v1/commands/{command_id}")
        assert answer.status == 200, answer.body
        return cast("dict[str, Any]", answer.json)

    async def targets(self, command_id: str) -> list[dict[str, Any]]:
        path = f"/api/v1/commands/{command_id}/targets"
        answer = await self.trial.call("GET", path)
        assert answer.status == 200, answer.body
        return cast("list[dict[str, Any]]", answer.json["items"])

    async def events(self) -> list[Event]:
        """What waits in the outbox, oldest first."""
        from shared.bus import outbox  # noqa: PLC0415 - only here

        async with self.trial.context.pool.acquire() as connection:
            return await outbox.read(connection, "command_queue")

    async def finished(self) -> list[CommandFinished]:
        return [event for event in await self.events() if isinstance(event, CommandFinished)]

    async def queued(self) -> list[Told]:
        """Targets of which was told that work waits, in the order of the outbox."""
        return [
            Told(event.command_id, target.device_id, target.channel_id, event.meta)
            for event in await self.events()
            if isinstance(event, CommandQueued)
            for target in event.targets
        ]

    async def rows(self, query: str, *values: Any) -> list[Any]:
        async with self.trial.context.pool.acquire() as connection:
            return [dict(row) for row in await connection.fetch(query, *values)]
