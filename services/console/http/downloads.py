"""Long answers as files, written as they are read."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from shared.runtime.http import still_admitted

JUDGED_SECONDS: Final = 30.0
"""How often it is asked whether the reader is still signed in."""


async def download(
    request: web.Request, chunks: AsyncIterator[bytes], content_type: str, filename: str
) -> web.StreamResponse:
    """Stream a file. What goes wrong once it began breaks it off: half must not look whole.

    So does the end of the session or token that asked for it, however slowly it is read.
    """
    response = web.StreamResponse(
        headers={
            "Content-Type": content_type,
            "Content-Disposition": f'attachment; filename="{filename}"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
    )
    judged_at = time.monotonic()
    try:
        async for chunk in chunks:
            if not response.prepared:
                await response.prepare(request)
            elif time.monotonic() - judged_at >= JUDGED_SECONDS:
                await still_admitted(request)
                judged_at = time.monotonic()
            await response.write(chunk)
        await response.write_eof()
    except ConnectionError:
        return response  # nobody reads any more
    except Exception:
        if response.prepared and request.transport is not None:
            request.transport.abort()
        raise
    return response
