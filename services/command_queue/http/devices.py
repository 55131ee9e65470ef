"""PUT|POST /mdm/apple/connect: where devices report and are given commands."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from typing import IO

from aiohttp import web

from services.command_queue import metrics
from services.command_queue.connect import LARGE, MAX_ANSWER, MAX_STREAM, Connect, Request
from services.command_queue.errors import PeerRefused
from shared.runtime.http import BODY_SECONDS, arrived, hold
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

CONNECT = web.AppKey("command_queue.connect", Connect)


async def connect(request: web.Request) -> web.StreamResponse:
    """PUT|POST /mdm/apple/connect: a status report in, the next command or nothing out."""
    service = request.config_dict[CONNECT]
    signature = request.headers.get("Mdm-Signature")
    if signature is None:
        # Before the body is read: strangers cost nothing.
        metrics.REFUSED.labels("signature missing").inc()
        raise Problem(400, "signature missing", "Sign the request.")
    try:
        if (request.content_length or 0) <= LARGE and (whole := arrived(request)) is not None:
            document = await service.serve(Request(signature, whole))
        else:
            async with AsyncExitStack() as stack:
                body, stream = await _read(request, service, stack, signature)
                document = await service.serve(Request(signature, body, stream))
    except PeerRefused as refused:
        raise Problem(400, refused.code, "The request does not count.") from None
    if not document:
        return web.Response()
    return web.Response(body=document, content_type="application/xml", charset="utf-8")


async def _read(
    request: web.Request, service: Connect, stack: AsyncExitStack, signature: str
) -> tuple[bytes, IO[bytes] | None]:
    """Read the body into memory, and what is longer than an answer may be into a file."""
    data = bytearray()
    file: IO[bytes] | None = None
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                if size <= LARGE < size + len(chunk):
                    await service.expect(signature)
                    await stack.enter_async_context(service.large)
                if file is None:
                    hold(request, len(chunk))
                size += len(chunk)
                if size > MAX_STREAM:
                    metrics.TOO_LARGE.labels("refused").inc()
                    raise Problem(413, "body_too_large", "No answer is that long.")
                data += chunk
                if size > MAX_ANSWER and len(data) > LARGE:
                    if file is None:
                        file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
                    await asyncio.to_thread(file.write, bytes(data))
                    data.clear()
    except TimeoutError:
        raise Problem(408, "body_slow", "The body took too long to arrive.") from None
    if file is None:
        return bytes(data), None
    await asyncio.to_thread(_finish, file, bytes(data))
    return b"", file


def _finish(file: IO[bytes], rest: bytes) -> None:
    file.write(rest)
    file.flush()


ROUTES = [
    Route(
        method,
        "/mdm/apple/connect",
        connect,
        listener="devices",
        summary="Report the result of a command and be given the next",
        max_body=MAX_STREAM,
    )
    for method in ("PUT", "POST")
]
