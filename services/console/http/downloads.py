"""Long answers as files, written as they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import web


async def download(
    request: web.Request, chunks: AsyncIterator[bytes], content_type: str, filename: str
) -> web.StreamResponse:
    """Stream a file. What goes wrong once it began breaks it off: half must not look whole."""
    response = web.StreamResponse(
        headers={
            "Content-Type": content_type,
            "Content-Disposition": f'attachment; filename="{filename}"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
    )
    try:
        async for chunk in chunks:
            if not response.prepared:
                await response.prepare(request)
            await response.write(chunk)
        await response.write_eof()
    except ConnectionError:
        return response  # nobody reads any more
    except Exception:
        if response.prepared and request.transport is not None:
            request.transport.abort()
        raise
    return response
