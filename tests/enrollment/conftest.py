"""Enrollment under test with a clock that stands still, and devices that speak to it.

The devices write their own CMS, SCEP and plists (`tools.simulator.wire` and plistlib): nothing of
the code under test helps them.
"""

from __future__ import annotations

import asyncio
import base64
import plistlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from services.enrollment.app import SERVICE
from shared.events.device_state import DeviceState, EnrollmentState
from shared.events.pushes import PushCertificateChanged
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Answer, RecordedCalls, Trial, trial
from shared.sealed import ensure_service_keys
from tests import told
from tools.embedded.testing import MakeDatabase
from tools.simulator.wire import cms, scep

TOPIC = "com.apple.mgmt.External.11111111-2222-3333-4444-555555555555"
API = "/api/v1/enrollment"
FENCE = "/internal/v1/commands/fence"
DECLARATIONS = "/internal/v1/configuration/declarations"
PKI_OPERATION = "?operation=PKIOperation"
_numbers = count(1)


@dataclass
class Apple:
    """A device: hardware, and the identity it signs with."""

    udid: str
    serial: str | None
    product: str = "iPhone15,2"
    id_key: str = "UDID"
    identity: cms.Identity | None = None
    style: cms.Style = field(default_factory=cms.Style)

    def message(self, kind: str, **more: Any) -> dict[str, Any]:
        values = {"MessageType": kind, self.id_key: self.udid, **more}
        return {key: value for key, value in values.items() if value is not None}

    def authenticate(self, **more: Any) -> dict[str, Any]:
        about = {
            "Topic": TOPIC,
            "DeviceName": f"Phone {self.serial}",
            "Model": "MQ0G3",
            "ModelName": "iPhone",
            "ProductName": self.product,
            "OSVersion": "26.1",
            "BuildVersion": "23B82",
            "SerialNumber": self.serial,
        }
        return self.message("Authenticate", **about | more)

    def token_update(self, **more: Any) -> dict[str, Any]:
        about = {"Topic": TOPIC, "Token": b"\x01" * 32, "PushMagic": "magic-1"}
        return self.message("TokenUpdate", **about | more)


class Told(told.Told):
    """With what was told last of a device."""

    @property
    def state(self) -> DeviceState:
        return self.of(DeviceState)[-1]

    @property
    def enrollment(self) -> EnrollmentState:
        """The current enrollment of the last state."""
        wanted = self.state.current_enrollment
        return next(one for one in self.state.enrollments if one.enrollment_id == wanted)


class House:
    """The service, and the words to speak to it as a person and as a device."""

    def __init__(
        self, service: Trial, clock: FixedClock, others: RecordedCalls, keys: Iterator[Any]
    ) -> None:
        self.service, self.clock, self.others, self._keys = service, clock, others, keys

    @property
    def fences(self) -> list[dict[str, Any]]:
        """The fences command_queue was asked for."""
        return [dict(body or {}) for _, _, path, body in self.others.calls if path == FENCE]

    async def told(self) -> Told:
        """Take what waits in the outbox."""
        return await Told.by(self.service)

    async def query(self, sql: str, *values: Any) -> list[Any]:
        async with self.service.context.pool.acquire() as connection:
            return list(await connection.fetch(sql, *values))

    def later(self, **by: float) -> None:
        self.clock.advance(timedelta(**by))

    # People

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The JSON of an API call that must succeed."""
        answer = await self.service.call(method, f"{API}{path}", body, **more)
        assert answer.status in (200, 201), answer.text
        return answer.json

    async def credential(self, **wanted: Any) -> str:
        """The path of a new enrollment address; for any hardware, unless told otherwise."""
        made = await self.call("POST", "/credentials", {"serials": "any"} | wanted)
        return str(urlsplit(made["enroll_url"]).path)

    async def push_certificate(self, topic: str = TOPIC) -> None:
        event = PushCertificateChanged(
            topic=topic, fingerprint="aa", not_after=self.clock.now() + timedelta(days=300)
        )
        await self.service.hears(event, service="push_notifier")

    # Devices

    async def device_get(self, path: str) -> Answer:
        return await self.service.send("devices", "GET", path)

    @property
    def address(self) -> str:
        """Where the device listener answers."""
        return str(self.service._listening.address("devices"))

    async def raw(self, request: bytes) -> bytes:
        """Bytes on a connection of their own, and all that is answered until it is closed."""
        address = urlsplit(self.address)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()

    async def profile(self, path: str) -> dict[str, Any]:
        """The profile behind an enrollment address, its signature checked."""
        answer = await self.device_get(path)
        assert answer.status == 200, answer.text
        return opened(answer.body)

    async def authorities(self, path: str) -> list[x509.Certificate]:
        answer = await self.device_get(f"{path}?operation=GetCACert")
        return list(cms.certificates_of(answer.body))

    def new_key(self) -> rsa.RSAPrivateKey:
        key: rsa.RSAPrivateKey = next(self._keys)
        return key

    async def request(
        self,
        path: str,
        challenge: str | None,
        key: rsa.RSAPrivateKey,
        *,
        signer: cms.Identity | None = None,
        cipher: str = "aes128",
        digest: str = "sha256",
    ) -> tuple[scep.Request, list[x509.Certificate]]:
        """A PKCSReq, or with a signer a RenewalReq, and who may answer it."""
        authorities = await self.authorities(path)
        name = scep.subject_name([[["CN", "whatever"]]])
        csr = scep.certificate_request(key, name, challenge)
        sent = scep.request(
            csr,
            key,
            signer or scep.self_signed(key, name),
            registration_authority(authorities),
            message_type=scep.RENEWAL_REQ if signer else scep.PKCS_REQ,
            cipher=cipher,
            digest=digest,
        )
        return sent, authorities

    async def issue(
        self,
        path: str,
        challenge: str | None,
        key: rsa.RSAPrivateKey | None = None,
        **more: Any,
    ) -> scep.Issued:
        """Ask for a certificate; raises ScepRefused."""
        sent, authorities = await self.request(path, challenge, key or self.new_key(), **more)
        answer = await self.service.send("devices", "POST", path + PKI_OPERATION, sent.message)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/x-pki-message"
        return scep.open_reply(answer.body, sent, authorities)

    async def identity(self, enroll_path: str) -> cms.Identity:
        """From an enrollment address to a certificate."""
        return await self.identity_of(await self.profile(enroll_path))

    async def identity_of(self, document: dict[str, Any]) -> cms.Identity:
        payload = payload_of(document, "com.apple.security.scep")["PayloadContent"]
        key = self.new_key()
        issued = await self.issue(urlsplit(payload["URL"]).path, payload["Challenge"], key)
        return cms.Identity(key, issued.certificate)

    def device(self, serial: str | None = "", **more: Any) -> Apple:
        number = next(_numbers)
        udid = f"00008110-{number:016X}"
        return Apple(udid, f"SERIAL{number:04}" if serial == "" else serial, **more)

    async def check_in(
        self,
        device: Apple,
        message: dict[str, Any] | bytes,
        *,
        method: str = "PUT",
        signed: bytes | None = None,
        identity: cms.Identity | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a check-in; `signed` is what the signature covers instead of the body."""
        body = message if isinstance(message, bytes) else plistlib.dumps(message)
        signer = identity or device.identity
        assert signer is not None
        content = body if signed is None else signed
        signature = base64.b64encode(cms.sign(content, [signer], device.style)).decode()
        given = {"Mdm-Signature": signature, **(headers or {})}
        return await self.service.send("devices", method, "/mdm/apple/checkin", body, given)

    async def enrolled(self, *, credential: str | None = None, **more: Any) -> Apple:
        """A device from credential to TokenUpdate."""
        device = self.device(**more)
        device.identity = await self.identity(credential or await self.credential())
        assert (await self.check_in(device, device.authenticate())).status == 200
        assert (await self.check_in(device, device.token_update())).status == 200
        return device

    async def find(self, device: Apple) -> dict[str, Any]:
        """The device as people see it."""
        listed = await self.call("GET", f"/devices?q={device.udid}")
        [found] = listed["items"]
        detail: dict[str, Any] = await self.call("GET", f"/devices/{found['device_id']}")
        return detail

    async def id_of(self, device: Apple) -> UUID:
        return UUID((await self.find(device))["device_id"])


def opened(document: bytes) -> dict[str, Any]:
    """A profile as a dictionary; a signed one is verified."""
    if not document.startswith(b"<?xml"):
        document = cms.open_signed(document).content
    loaded: dict[str, Any] = plistlib.loads(document)
    return loaded


def registration_authority(certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    """Whom clients encrypt to: the one that is no CA."""
    [found] = [
        one
        for one in certificates
        if not one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    ]
    return found


def payload_of(document: dict[str, Any], kind: str) -> dict[str, Any]:
    [payload] = [one for one in document["PayloadContent"] if one["PayloadType"] == kind]
    return dict(payload)


def _make_keys() -> Iterator[rsa.RSAPrivateKey]:
    """A fresh key each time; making one takes a good part of a test's time."""
    while True:
        yield rsa.generate_private_key(65537, 2048)


@asynccontextmanager
async def _service(
    make_database: MakeDatabase, keys: Path, **settings: str
) -> AsyncIterator[House]:
    clock = FixedClock(datetime.now(UTC).replace(microsecond=0))
    others = RecordedCalls()
    for other in ("push_notifier", "command_queue"):
        ensure_service_keys(keys, other)
    dsn = await make_database("enrollment")
    environ = {"MUSTER_PUBLIC_URL": "https://mdm.example.org"} | {
        f"MUSTER_ENROLLMENT_{name.upper()}": value for name, value in settings.items()
    }
    async with trial(SERVICE, dsn, keys, clock=clock, internal=others, environ=environ) as service:
        yield House(service, clock, others, _make_keys())


@pytest.fixture
async def bare_house(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[House]:
    """The service as it first starts: no push certificate yet."""
    async with _service(make_database, tmp_path) as house:
        yield house


@pytest.fixture
async def outer_house(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[House]:
    """One that counts by addresses, this machine's too, and soon finds them too many."""
    few = {"lobby_uncounted": "[]", "lobby_address_limit": "3", "lobby_credential_addresses": "4"}
    async with _service(make_database, tmp_path, **few) as house:
        await house.push_certificate()
        await house.told()
        yield house


@pytest.fixture
async def house(bare_house: House) -> House:
    await bare_house.push_certificate()
    await bare_house.told()
    return bare_house
