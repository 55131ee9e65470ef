"""APNs over HTTP/2 through aioapns, with the edges that aioapns 4.0 leaves open closed here."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from aioapns.common import NotificationRequest, NotificationResult, PushType
from aioapns.connection import APNsBaseConnectionPool, APNsTLSClientProtocol
from aioapns.exceptions import ConnectionError as ApnsConnectionError
from aioapns.exceptions import MaxAttemptsExceeded

from services.push_notifier.answers import UNREACHABLE, Answer, apns_time

# It says each failure several times over; here every failure is an answer, and counted.
logging.getLogger("aioapns").setLevel(logging.CRITICAL)


class _Connection(APNsTLSClientProtocol):
    """Three faults of aioapns 4.0 are mended: stream ids that are never forgotten, error bodies
    that are never acknowledged (the flow-control window closes after some two thousand), and an
    error without a body that leaves its sender waiting.
    """

    def __init__(self, host: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.APNS_SERVER = host

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

    async def create_connection(self) -> _Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            partial(_Connection, self._host, self.apns_topic, self.loop, self.discard_connection),
            self._host,
            self._port,
            ssl=self.ssl_context,
        )
        return connection

    def forget(self, push_id: str) -> None:
        """A push whose sender stopped waiting: a late answer must find nobody."""
        for connection in self.connections:
            connection.requests.pop(push_id, None)


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
            self._pool.forget(push_id)
            return Answer(UNREACHABLE, "no answer in time")
        except (MaxAttemptsExceeded, ApnsConnectionError, OSError):
            return Answer(UNREACHABLE, "no connection")
        return Answer(int(result.status), result.description or "", apns_time(result.timestamp))

    def close(self) -> None:
        for connection in list(self._pool.connections):
            connection.close()


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
