"""The listeners of a process: one aiohttp application each, holding the routes of all services."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from cryptography import x509

from shared.runtime import metrics
from shared.runtime.connections import Gate, LimitedSite
from shared.runtime.endpoints import Endpoint
from shared.runtime.health import Health
from shared.runtime.problems import device_response, problem_of, problem_response
from shared.runtime.routes import Route
from shared.runtime.running import Running
from shared.runtime.settings import Listener, ListenerName, Settings

log = logging.getLogger(__name__)

_LARGEST_BODY = 64 * 1024 * 1024
_POLL_SECONDS = 0.05
# A peer that was accepted and still shakes hands is not counted yet.
_HANDSHAKE_SECONDS = 0.2


@dataclass(frozen=True)
class _Opened:
    """One listener: usually one site. Among siblings, those of the sockets they share, and on the
    internal listener one of its own first, where this very process is asked how it is.
    """

    runner: web.AppRunner
    sites: Sequence[LimitedSite]
    gates: Sequence[Gate]


class Listening:
    """Opens and closes the listeners of a process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ports: dict[ListenerName, int] = {}
        self._open: dict[ListenerName, _Opened] = {}

    def address(self, name: ListenerName) -> str | None:
        """Where a listener answers, with the port in use; None when it is closed."""
        opened = self._open.get(name)
        return opened.sites[0].name if opened else None

    async def open(
        self, name: ListenerName, services: Sequence[Running], health: Health | None = None
    ) -> None:
        """Listen; a listener without a route and without probes stays closed.

        Opened again it keeps its port, also where the settings say any free one.
        """
        application = application_of(name, services, health)
        if not application.router.routes():
            return
        settings = self._settings
        listener = settings.listeners[name]
        listener = replace(listener, port=self._ports.get(name, listener.port))
        runner = web.AppRunner(application, shutdown_timeout=settings.shutdown_seconds)
        await runner.setup()
        # Among siblings the probes are each process's own, from its first moment to its last;
        # the shared sockets are for what any of them can answer.
        shared = settings.listen_fds.get(name, []) if services else []
        own = [None] if name == "internal" or not shared else []
        gates = [
            Gate(name, settings.max_connections, most_bodies=settings.max_body_bytes)
            for _ in (*own, *shared)
        ]
        sites = [
            LimitedSite(runner, listener, gate, fd)
            for fd, gate in zip((*own, *shared), gates, strict=True)
        ]
        try:
            for site in sites:
                await site.start()
        except OSError as error:
            await runner.cleanup()
            raise ListenerTaken(taken(listener, error)) from error
        self._open[name], self._ports[name] = _Opened(runner, sites, gates), sites[0].port
        if listener.cert is not None:
            metrics.TLS_NOT_AFTER.labels(name).set(_not_after(listener.cert))
        log.info("Listening", extra={"listener": name, "address": sites[0].name})

    async def drain(self) -> None:
        """Part with the peers before the end, so that none of them runs into it.

        From now on every answer says `Connection: close`. Connections are still taken for
        `drain_seconds`, then no more; who is silent may bring one last request for
        `linger_seconds`. The process's own internal address answers on.
        """
        parting = [
            (site, gate)
            for opened in self._open.values()
            for site, gate in zip(opened.sites, opened.gates, strict=True)
            if site.is_inherited or gate.listener != "internal"
        ]
        for _, gate in parting:
            gate.draining = True
        if parting:
            await asyncio.sleep(self._settings.drain_seconds)
        for site, _ in parting:
            await site.stop()
        if any(site.speaks_tls for site, _ in parting):
            await asyncio.sleep(min(_HANDSHAKE_SECONDS, self._settings.linger_seconds))
        deadline = time.monotonic() + self._settings.linger_seconds
        while (  # noqa: ASYNC110 - the gates only count
            time.monotonic() < deadline and not all(gate.empty for _, gate in parting)
        ):
            await asyncio.sleep(_POLL_SECONDS)

    async def close(self, name: ListenerName) -> None:
        """Take no more connections, let requests in progress end, close the rest."""
        if opened := self._open.pop(name, None):
            await opened.runner.cleanup()


class ListenerTaken(Exception):  # noqa: N818 (what happened)
    """A listener's address cannot be used; the message says which setting to change."""


def _not_after(certificate: Path) -> float:
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc.timestamp()


def taken(listener: Listener, error: OSError) -> str:
    """What to say of an address that cannot be listened on."""
    return (
        f"cannot listen on {listener.host}:{listener.port} ({error.strerror or error}): "
        f"set MUSTER_{listener.name.upper()}_PORT, or stop what listens there"
    )


def application_of(
    name: ListenerName, services: Sequence[Running], health: Health | None = None
) -> web.Application:
    """The application of one listener; services that share it must not share keys or paths."""
    application = web.Application(middlewares=[_unmatched_on(name)], client_max_size=_LARGEST_BODY)
    if health is not None:
        application.add_routes(health.routes())
    for running in services:
        verifier = running.context.tokens.verifier
        for route in running.service.routes:
            if _answers_on(name, route):
                door, revocations = running.parts.door, running.revocations
                endpoint = Endpoint(running.name, route, verifier, door, revocations)
                application.router.add_route(route.method, route.path, endpoint.__call__)
        for key, value in running.parts.values.items():
            if key in application:
                raise ValueError(f"{running.name}: the application key {key} is taken")
            application[key] = value
    return application


def _answers_on(name: ListenerName, route: Route) -> bool:
    """The console asks for people at the internal listener, with their own tokens (decision 38)."""
    with_a_token = route.listener == "api" and not (route.public or route.page)
    return route.listener == name or (name == "internal" and with_a_token)


def _unmatched_on(
    name: ListenerName,
) -> Middleware:
    """What no route answers, in the listener's own form."""

    @web.middleware
    async def unmatched(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            problem = problem_of(error)
            if name == "devices":
                return device_response(problem)
            return problem_response(problem, uuid4().hex)

    return unmatched
