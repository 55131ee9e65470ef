"""A tiny MDM server for the simulator's tests: it believes nothing and keeps what it heard."""

from __future__ import annotations

import asyncio
import base64
import json
import plistlib
import ssl
import urllib.parse
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from tests.simulator.responder_scep import (
    Party,
    ScepAuthority,
    issue,
    make_authority,
    named,
    openssl,
    pem,
)

TOPIC = "com.apple.mgmt.External.0a1b2c3d"


@dataclass
class Heard:
    """One request, and whether OpenSSL trusts its signature."""

    path: str
    method: str
    headers: Mapping[str, str]
    body: bytes
    trusted: bool
    why: str

    @property
    def message(self) -> dict[str, Any]:
        value: dict[str, Any] = plistlib.loads(self.body)
        return value


@dataclass
class Responder:
    """Enrolls anybody who brings an unused token, serves each channel's queue in order."""

    folder: Path
    authority: ScepAuthority
    tls: Party
    heard: list[Heard] = field(default_factory=list)
    queues: defaultdict[tuple[str, str | None], list[dict[str, Any]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    statuses: list[int | None] = field(default_factory=list)
    """What to answer the coming check-ins and connects with; None is an honest answer."""
    forgetful: bool = False
    """Whether it offers a command again right after it was refused."""
    profile_uses: int = 1000
    signed: bool = True
    changes: dict[str, Any] = field(default_factory=dict)
    """What differs in the com.apple.mdm payload of the profiles served."""
    declarations: dict[str, Any] = field(default_factory=dict)
    streams: list[asyncio.Queue[bytes]] = field(default_factory=list)
    url: str = ""

    async def start(self) -> web.AppRunner:
        app = web.Application(client_max_size=32 * 2**20)
        app.add_routes(
            [
                web.get("/enroll/apple/{token}", self._enroll),
                web.route("*", "/scep/{token}", self._scep),
                web.route("*", "/mdm/apple/checkin", self._check_in),
                web.route("*", "/mdm/apple/connect", self._connect),
                web.get("/simulator/stream", self._stream),
            ]
        )
        (self.folder / "tls.pem").write_bytes(pem(self.tls.certificate) + pem(self.tls.key))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / "tls.pem")
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    @property
    def enroll_url(self) -> str:
        return f"{self.url}/enroll/apple/counted"

    @property
    def trust(self) -> Path:
        path = self.folder / "trust.pem"
        path.write_bytes(pem(self.tls.certificate))
        return path

    def queue(self, udid: str, request_type: str, user: str | None = None, **keys: Any) -> str:
        command_uuid = str(uuid.uuid4())
        command = {"RequestType": request_type, **keys}
        self.queues[udid, user].append({"CommandUUID": command_uuid, "Command": command})
        return command_uuid

    def push(self, token: bytes, magic: str, topic: str = TOPIC) -> None:
        line = {"token": token.hex(), "topic": topic, "payload": {"mdm": magic}}
        for stream in self.streams:
            stream.put_nowait(json.dumps(line).encode() + b"\n")

    def said(self, message_type: str) -> list[dict[str, Any]]:
        """Every check-in of one type whose signature held."""
        messages = [heard.message for heard in self.heard if heard.trusted]
        return [message for message in messages if message.get("MessageType") == message_type]

    def profile(self, **changes: Any) -> bytes:
        """An enrollment profile with a fresh one-time challenge, signed unless told otherwise."""
        challenge = str(uuid.uuid4())
        self.authority.challenges.add(challenge)
        document = plistlib.dumps(self._profile(challenge, changes))
        if not self.signed:
            return document
        signer, key = self.authority.ca.certificate, self.authority.ca.key
        builder = pkcs7.PKCS7SignatureBuilder().set_data(document)
        builder = builder.add_signer(signer, key, hashes.SHA256())
        return builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])

    def _profile(self, challenge: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        fingerprint = self.authority.ca.certificate.fingerprint(hashes.SHA256())
        scep = {
            "PayloadType": "com.apple.security.scep",
            "PayloadIdentifier": "test.enrollment.scep",
            "PayloadUUID": "5CE90000-0000-4000-8000-000000000001",
            "PayloadVersion": 1,
            "PayloadContent": {
                "URL": f"{self.url}/scep/one",
                "Name": "test CA",
                "Subject": [[["O", "Example"]], [["2.5.4.3", "a device"]]],
                "Challenge": challenge,
                "Keysize": 2048,
                "Key Type": "RSA",
                "Key Usage": 5,
                "CAFingerprint": fingerprint,
            },
        }
        root = {
            "PayloadType": "com.apple.security.root",
            "PayloadIdentifier": "test.enrollment.root",
            "PayloadUUID": "5CE90000-0000-4000-8000-000000000002",
            "PayloadVersion": 1,
            "PayloadContent": self.authority.ca.certificate.public_bytes(
                serialization.Encoding.DER
            ),
        }
        mdm = {
            "PayloadType": "com.apple.mdm",
            "PayloadIdentifier": "test.enrollment.mdm",
            "PayloadUUID": "5CE90000-0000-4000-8000-000000000003",
            "PayloadVersion": 1,
            "IdentityCertificateUUID": scep["PayloadUUID"],
            "Topic": TOPIC,
            "ServerURL": f"{self.url}/mdm/apple/connect",
            "CheckInURL": f"{self.url}/mdm/apple/checkin",
            "SignMessage": True,
            "AccessRights": 8191,
            "CheckOutWhenRemoved": True,
            "ServerCapabilities": [
                "com.apple.mdm.per-user-connections",
                "com.apple.mdm.bootstraptoken",
            ],
            **self.changes,
            **changes,
        }
        return {
            "PayloadType": "Configuration",
            "PayloadIdentifier": "test.enrollment",
            "PayloadUUID": "5CE90000-0000-4000-8000-000000000000",
            "PayloadVersion": 1,
            "PayloadDisplayName": "Enrollment",
            "PayloadContent": [root, scep, mdm],
        }

    async def _enroll(self, _: web.Request) -> web.Response:
        if self.profile_uses == 0:
            return web.Response(status=410, text="used up")
        self.profile_uses -= 1
        return web.Response(body=self.profile(), content_type="application/x-apple-aspen-config")

    async def _scep(self, request: web.Request) -> web.Response:
        operation = request.query["operation"]
        if operation == "GetCACaps":
            return web.Response(text=self.authority.capabilities)
        if operation == "GetCACert":
            body, content_type = self.authority.certificates()
            return web.Response(body=body, headers={"Content-Type": content_type})
        message = await request.read()
        if request.method == "GET":
            query = dict(urllib.parse.parse_qsl(request.raw_path.partition("?")[2]))
            message = base64.b64decode(query["message"])
        answer = await asyncio.to_thread(self.authority.operate, message)
        return web.Response(body=answer, headers={"Content-Type": "application/x-pki-message"})

    async def _hear(self, request: web.Request) -> Heard:
        body = await request.read()
        signature = request.headers.get("Mdm-Signature", "")
        trusted, why = await asyncio.to_thread(self._verify, body, signature)
        heard = Heard(request.path, request.method, request.headers, body, trusted, why)
        self.heard.append(heard)
        return heard

    def _verify(self, body: bytes, signature: str) -> tuple[bool, str]:
        stem = self.folder / str(uuid.uuid4())
        stem.with_suffix(".body").write_bytes(body)
        try:
            openssl(
                *("cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any"),
                *("-CAfile", self.folder / "ca.pem", "-content", stem.with_suffix(".body")),
                stdin=base64.b64decode(signature),
            )
        except ValueError as error:
            return False, str(error)
        return True, ""

    def _planned(self, heard: Heard) -> web.Response | None:
        planned = self.statuses.pop(0) if self.statuses else None
        if planned is not None:
            return web.Response(status=planned)
        return None if heard.trusted else web.Response(status=400, text="signature")

    async def _check_in(self, request: web.Request) -> web.Response:
        heard = await self._hear(request)
        planned = self._planned(heard)
        if planned is not None:
            return planned
        message = heard.message
        if message["MessageType"] == "GetBootstrapToken":
            kept = [one["BootstrapToken"] for one in self.said("SetBootstrapToken")][-1:]
            answer = {"BootstrapToken": kept[0]} if kept else {}
            return web.Response(body=plistlib.dumps(answer), content_type="application/xml")
        if message["MessageType"] == "DeclarativeManagement":
            return self._declare(message["Endpoint"])
        return web.Response()

    def _declare(self, endpoint: str) -> web.Response:
        if endpoint == "status":
            return web.Response()
        if endpoint not in self.declarations:
            return web.Response(status=404)
        return web.json_response(self.declarations[endpoint])

    async def _connect(self, request: web.Request) -> web.Response:
        heard = await self._hear(request)
        planned = self._planned(heard)
        if planned is not None:
            return planned
        message = heard.message
        channel = (message["UDID"], message.get("UserID"))
        status, command_uuid = message["Status"], message.get("CommandUUID")
        queue = self.queues[channel]
        if command_uuid is not None:
            self.results.setdefault(command_uuid, message)
            if status != "NotNow":
                self.results[command_uuid] = message
                queue[:] = [one for one in queue if one["CommandUUID"] != command_uuid]
        fresh = [one for one in queue if one["CommandUUID"] not in self.results]
        serve = queue if status == "Idle" or self.forgetful else fresh
        if not serve:
            return web.Response()
        return web.Response(body=plistlib.dumps(serve[0]), content_type="application/xml")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.streams.append(queue)
        while line := await queue.get():
            await response.write(line)
        self.streams.remove(queue)
        return response


@cache
def parties() -> tuple[Party, Party, Party]:
    """CA, RA and TLS server, made once: keys take time."""
    ca, ra = make_authority()
    key = rsa.generate_private_key(65537, 2048)
    names = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    certificate = issue(
        key.public_key(), named("localhost"), None, key, x509.SubjectAlternativeName(names)
    )
    return ca, ra, Party(key, certificate)


def make_responder(folder: Path) -> Responder:
    ca, ra, tls = parties()
    return Responder(folder, ScepAuthority(folder, ca, ra), tls)
