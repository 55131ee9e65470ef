"""What Kubernetes and Prometheus ask, on the internal listener."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from shared.runtime import metrics

log = logging.getLogger(__name__)
_CHECK_SECONDS = 2.0


class Watched(Protocol):
    """A service that runs in this process, as the probes see it."""

    @property
    def name(self) -> str: ...

    def healthy(self) -> bool:
        """Whether its parts make progress; never asks a dependency."""
        ...

    async def ready(self) -> bool:
        """Whether it can serve now: database, schema, its own checks."""
        ...

    def observe(self) -> None:
        """Bring gauges up to date before they are scraped."""
        ...


class Health:
    """The probes of a process. `started` and `draining` follow its life."""

    def __init__(self) -> None:
        self.watched: list[Watched] = []
        self.started = False
        self.draining = False

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/livez", self._livez),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._metrics),
        ]

    async def _livez(self, _request: web.Request) -> web.Response:
        stuck = [each.name for each in self.watched if not _watch(each)]
        return _verdict("stuck", stuck)

    async def _readyz(self, _request: web.Request) -> web.Response:
        if not self.started or self.draining:
            return _verdict("this process", ["draining" if self.draining else "starting"])
        answers = await asyncio.gather(*(_is_ready(each) for each in self.watched))
        waiting = [e.name for e, ready in zip(self.watched, answers, strict=True) if not ready]
        return _verdict("not ready", waiting)

    async def _metrics(self, request: web.Request) -> web.Response:
        for each in self.watched:
            each.observe()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})


def _watch(each: Watched) -> bool:
    healthy = each.healthy()
    metrics.WATCHDOG_HEALTHY.labels(each.name).set(int(healthy))
    return healthy


async def _is_ready(each: Watched) -> bool:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await each.ready()
    except Exception as error:  # noqa: BLE001 (whatever it is, it is not ready)
        log.warning("Not ready", extra={"part": each.name, "why": type(error).__name__})
        return False


def _verdict(what: str, faults: Sequence[str]) -> web.Response:
    if faults:
        return web.Response(status=503, text=f"{what}: {', '.join(faults)}\n")
    return web.Response(text="ok\n")
