"""The stand-in's HTTP/2 side: frames in, pushes out, answers and GOAWAY back."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast
from uuid import UUID

from cryptography import x509
from cryptography.x509.oid import NameOID
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

_PATH = re.compile(r"/3/device/([0-9a-fA-F]{1,200})")
_LARGEST_PAYLOAD = 4096
_CONCURRENT_STREAMS = 100


@dataclass(frozen=True)
class Reply:
    status: int
    reason: str = ""
    timestamp: int | None = None
    goaway: bool = False
    drop: bool = False
    delay: float = 0.0

    def body(self) -> bytes:
        if self.status == HTTPStatus.OK:
            return b""
        told: dict[str, Any] = {"reason": self.reason}
        if self.timestamp is not None:
            told["timestamp"] = self.timestamp
        return json.dumps(told).encode()


@dataclass
class Push:
    """One request as it came; `refusal()` is what APNs itself would object to."""

    headers: dict[str, str]
    certificate_topic: str
    body: bytearray = field(default_factory=bytearray)

    @property
    def token(self) -> str:
        found = _PATH.fullmatch(self.headers.get(":path", ""))
        return found.group(1).lower() if found else ""

    @property
    def topic(self) -> str:
        return self.headers.get("apns-topic", "")

    @property
    def payload(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def expires(self) -> float:
        """Without the header, or with 0, APNs tries once and stores nothing."""
        return float(self.headers.get("apns-expiration", "0"))

    def refusal(self) -> Reply | None:
        checks = (
            (self.headers.get(":method") != "POST", 405, "MethodNotAllowed"),
            (not self.headers.get(":path", "").startswith("/3/device/"), 404, "BadPath"),
            (not self.token or len(self.token) % 2 != 0, 400, "BadDeviceToken"),
            (not self.topic, 400, "MissingTopic"),
            (self.topic != self.certificate_topic, 400, "TopicDisallowed"),
            (self.headers.get("apns-push-type") != "mdm", 400, "InvalidPushType"),
            (self.headers.get("apns-priority", "10") != "10", 400, "BadPriority"),
            (not self.headers.get("apns-expiration", "0").isdigit(), 400, "BadExpirationDate"),
            (not _is_uuid(self.headers.get("apns-id")), 400, "BadMessageId"),
            (not self.body, 400, "PayloadEmpty"),
            (len(self.body) > _LARGEST_PAYLOAD, 413, "PayloadTooLarge"),
            (not _is_wake(self.payload), 400, "PayloadEmpty"),
            (not self.token.strip("0"), 400, "BadDeviceToken"),  # nobody's
        )
        return next((Reply(status, reason) for bad, status, reason in checks if bad), None)


def _is_uuid(text: str | None) -> bool:
    try:
        return text is None or str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _is_wake(payload: Any) -> bool:
    """An MDM push holds the PushMagic and nothing else (apple.md §1.10)."""
    return (
        isinstance(payload, dict)
        and list(payload) == ["mdm"]
        and isinstance(payload["mdm"], str)
        and payload["mdm"] != ""
    )


class _Connection(asyncio.Protocol):
    def __init__(self, answer: Callable[[Push], Reply]) -> None:
        self._answer = answer
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._pushes: dict[int, Push] = {}
        self._transport: asyncio.Transport
        self._topic = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport does not inherit from asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)
        self._topic = _topic_of(transport.get_extra_info("ssl_object"))
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: _CONCURRENT_STREAMS})
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except ProtocolError:
            self._flush()
            self._transport.close()
            return
        for event in events:
            if isinstance(event, RequestReceived):
                headers = {str(name): str(value) for name, value in event.headers}
                self._pushes[event.stream_id] = Push(headers, self._topic)
            elif isinstance(event, DataReceived):
                self._pushes[event.stream_id].body += event.data
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                self._decide(event.stream_id)
        self._flush()

    def _decide(self, stream: int) -> None:
        push = self._pushes.pop(stream)
        reply = self._answer(push)
        if reply.delay:
            loop = asyncio.get_running_loop()
            loop.call_later(reply.delay, self._reply, stream, push, reply)
        else:
            self._reply(stream, push, reply)

    def _reply(self, stream: int, push: Push, reply: Reply) -> None:
        if self._transport.is_closing() or reply.drop:
            return  # `drop`: the answer never comes; the sender must not wait for ever
        if reply.goaway:
            told = json.dumps({"reason": reply.reason or "Shutdown"}).encode()
            self._h2.close_connection(ErrorCodes.NO_ERROR, additional_data=told)
            self._flush()
            self._transport.close()
            return
        headers = [(":status", str(reply.status)), ("apns-id", push.headers.get("apns-id", ""))]
        body = reply.body()
        self._h2.send_headers(stream, headers, end_stream=not body)
        if body:
            self._h2.send_data(stream, body, end_stream=True)
        self._flush()

    def _flush(self) -> None:
        self._transport.write(self._h2.data_to_send())


def _topic_of(tls: ssl.SSLObject) -> str:
    certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    found = certificate.subject.get_attributes_for_oid(NameOID.USER_ID)
    return str(found[0].value) if found else ""


async def serve(
    answer: Callable[[Push], Reply], host: str, port: int, context: ssl.SSLContext
) -> asyncio.Server:
    """Listen; each complete request is put to `answer` and replied to."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Connection(answer), host, port, ssl=context)
