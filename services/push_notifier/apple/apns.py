"""APNs over HTTP/2 through aioapns, with the edges that aioapns 4.0 leaves open closed here."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import tempfile
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from aioapns.common import NotificationRequest, NotificationResult, PushType
from aioapns.connection import (
    APNsBaseClientProtocol,
    APNsBaseConnectionPool,
    APNsTLSClientProtocol,
)
from aioapns.exceptions import ConnectionError as ApnsConnectionError
from aioapns.exceptions import MaxAttemptsExceeded

from services.push_notifier.answers import UNREACHABLE, Answer, apns_time

# It says each failure several times over; here every failure is an answer, and counted.
logging.getLogger("aioapns").setLevel(logging.CRITICAL)

_ABOUT_CERTIFICATES = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")


class _Connection(APNsTLSClientProtocol):
    """Four faults of aioapns 4.0 are mended: stream ids that are never forgotten, error bodies
    that are never acknowledged (the flow-control window closes after some two thousand), an error
    without a body that leaves its sender waiting, and a server that falls silent, whose connection
    would be used for as long as we send.
    """

    def __init__(self, host: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.APNS_SERVER = host
        self.heard_at = self.loop.time()
        self.lost_by: Exception | None = None

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost_by = exc
        # A sender that stopped waiting is told nothing: its future is done.
        waiting = {one: answer for one, answer in self.requests.items() if not answer.done()}
        self.requests = waiting
        super().connection_lost(exc)

    def abort(self) -> None:
        """End it without waiting for what is unsent: nobody reads that."""
        if self.inactivity_timer:
            self.inactivity_timer.cancel()
        if self.transport is not None:
            self.transport.abort()

    def on_data_received(self, data: bytes, stream_id: int) -> None:
        self.conn.acknowledge_received_data(len(data), stream_id)
        super().on_data_received(data, stream_id)

    def on_stream_ended(self, stream_id: int) -> None:
        push_id = self.request_streams.pop(stream_id, "")
        status = self.request_statuses.pop(push_id, "")
        request = self.requests.pop(push_id, None) if status else None
        if request and not request.done():
            request.set_result(NotificationResult(push_id, status, description=""))
        super().on_stream_ended(stream_id)


class _Pool(APNsBaseConnectionPool):
    def __init__(self, host: str, port: int, context: ssl.SSLContext, connections: int) -> None:
        super().__init__(max_connections=connections, max_connection_attempts=1)
        self._host = host
        self._port = port
        self.ssl_context = context
        self.refusal: str | None = None
        """Why the server's TLS did not want our certificate, when it said so lately."""

    async def create_connection(self) -> _Connection:
        self.refusal = None
        try:
            _, connection = await self.loop.create_connection(
                partial(_Connection, self._host, self.apns_topic, None, self.discard_connection),
                self._host,
                self._port,
                ssl=self.ssl_context,
            )
        except ssl.SSLError as error:
            self.refusal = _refusal(error)
            raise
        return connection

    def discard_connection(self, connection: APNsBaseClientProtocol) -> None:
        """By TLS 1.3 the server judges a certificate when we believe to be connected."""
        if isinstance(connection, _Connection) and (refusal := _refusal(connection.lost_by)):
            self.refusal = refusal
        super().discard_connection(connection)

    def forget(self, push_id: str, waited: float) -> None:
        """A push whose sender stopped waiting: a late answer must find nobody.

        A connection that said nothing at all meanwhile is given up: what we sent on would pile up
        in it.
        """
        for connection in [one for one in self.connections if isinstance(one, _Connection)]:
            owed = connection.requests.pop(push_id, None)
            if owed is not None and self.loop.time() - connection.heard_at >= waited:
                connection.abort()


class Apns:
    """One push certificate's way to APNs."""

    def __init__(
        self, context: ssl.SSLContext, *, host: str, port: int, connections: int, timeout: float
    ) -> None:
        self._pool = _Pool(host, port, context, connections)
        self._timeout = timeout

    async def wake(
        self, topic: str, token: str, magic: str, *, push_id: str, lifetime: int
    ) -> Answer:
        """Send one MDM push; whatever happens comes back as an answer, nothing is raised.

        `lifetime` (seconds) becomes apns-expiration: without it APNs does not keep the push for a
        device that is away.
        """
        request = NotificationRequest(
            device_token=token,
            message={"mdm": magic},
            notification_id=push_id,
            time_to_live=lifetime,
            priority=10,
            push_type=PushType.MDM,
            apns_topic=topic,
        )
        try:
            async with asyncio.timeout(self._timeout):
                result = await self._pool.send_notification(request)
        except TimeoutError:
            self._pool.forget(push_id, self._timeout)
            return self._unanswered("no answer in time")
        except (MaxAttemptsExceeded, ApnsConnectionError, OSError):
            return self._unanswered("no connection")
        return Answer(int(result.status), result.description or "", apns_time(result.timestamp))

    def _unanswered(self, why: str) -> Answer:
        """A certificate that TLS refuses is refused as one that APNs refuses by 403."""
        refusal = self._pool.refusal
        return Answer(HTTPStatus.FORBIDDEN, refusal) if refusal else Answer(UNREACHABLE, why)

    def close(self) -> None:
        for connection in list(self._pool.connections):
            connection.close()


def _refusal(error: Exception | None) -> str | None:
    """What the server said against our certificate; our own doubts about its one are none."""
    reason = str(error.reason or "") if isinstance(error, ssl.SSLError) else ""
    about_ours = "ALERT" in reason and any(word in reason for word in _ABOUT_CERTIFICATES)
    return f"refused in TLS: {reason}" if about_ours else None


def client_context(certificate: str, key: bytes, trust: Path | None) -> ssl.SSLContext:
    """TLS with this push certificate (PEM) and private key (PEM); `trust` names a CA file.

    Python loads keys from files only: the file lives in memory, or is gone at once.
    """
    context = ssl.create_default_context(cafile=str(trust) if trust else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    content = certificate.encode() + b"\n" + key
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("push-certificate")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{handle}")
        return context
    with tempfile.NamedTemporaryFile() as file:  # created 0600
        file.write(content)
        file.flush()
        context.load_cert_chain(file.name)
    return context
