"""GET /assets/…: what pages are made of. The address changes with the content."""

from __future__ import annotations

from aiohttp import web

from services.console.http.keys import BUNDLE
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

_FOR_EVER = "public, max-age=31536000, immutable"


async def get_asset(request: web.Request) -> web.StreamResponse:
    """An older page may ask by an older digest: it gets what there is now, kept by nobody."""
    bundle = request.config_dict[BUNDLE]
    asset = bundle.assets.get(request.match_info["name"])
    if asset is None:
        raise Problem(404, "asset_unknown", "There is no such file.")
    current = request.match_info["digest"] == bundle.digest
    headers = {"Vary": "Accept-Encoding", "Cache-Control": _FOR_EVER if current else "no-store"}
    body = asset.data
    if asset.zipped is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
        body, headers["Content-Encoding"] = asset.zipped, "gzip"
    return web.Response(body=body, headers={**headers, "Content-Type": asset.content_type})


ROUTES = (
    Route(
        "GET",
        "/assets/{digest}/{name:.+}",
        get_asset,
        page=True,
        public=True,
        summary="A style sheet, script or icon",
    ),
)
