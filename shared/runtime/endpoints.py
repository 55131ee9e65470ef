"""One route, guarded: identity, limits, errors, measures. What a handler need not think of."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from secrets import token_hex

from aiohttp import web
from prometheus_client import Histogram

from shared.bus.context import correlation_id
from shared.db.batcher import Overloaded
from shared.db.errors import is_unstorable_text
from shared.db.pool import is_transient
from shared.runtime import metrics, traces
from shared.runtime.http import ADMISSION, CALLER, ROUTE, Admission, Caller, too_large
from shared.runtime.internal import InternalCallFailed
from shared.runtime.logs import SERVICE
from shared.runtime.pages import Door
from shared.runtime.problems import Problem, device_response, problem_of, problem_response
from shared.runtime.revocations import Revocations
from shared.runtime.routes import Route
from shared.runtime.tokens import Claims, TokenRefused, Verifier

log = logging.getLogger(__name__)

SLOW_SECONDS = 0.5
_CORRELATION = re.compile(r"[A-Za-z0-9._-]{8,100}")
_SAFE_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Endpoint:
    """Answers one route of one service."""

    def __init__(
        self,
        service: str,
        route: Route,
        verifier: Verifier,
        door: Door | None = None,
        revocations: Revocations | None = None,
    ) -> None:
        if route.page and door is None:
            raise ValueError(f"{route.path}: {service} has pages, but no door")
        self._service, self._route, self._verifier = service, route, verifier
        self._door = door if route.page else None
        self._revocations = revocations if route.permission and not route.page else None
        self._in_progress = metrics.HTTP_IN_PROGRESS.labels(service)
        self._seconds: dict[int, Histogram] = {}

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        SERVICE.set(self._service)
        started = time.perf_counter()
        correlation = self._correlate(request)
        self._in_progress.inc()
        try:
            with traces.server_span(self._service, self._route, request.headers) as span:
                response = await self._answer(request, correlation)
                traces.answered(span, response.status)
        finally:
            self._in_progress.dec()
        if self._route.listener != "devices":
            response.headers["X-Correlation-Id"] = correlation
            if self._door is None:
                response.headers.update(_SAFE_HEADERS)
            elif not response.prepared:
                self._door.dress(request, response)
        if not request.content.is_eof() and not response.prepared:
            # The rest of an unread body is not worth waiting for.
            response.force_close()
        streamed = self._route.stream and response.prepared
        self._measure(response.status, 0.0 if streamed else time.perf_counter() - started)
        return response

    def _correlate(self, request: web.Request) -> str:
        """People and services may bring an id; a device's would be a stranger's word in the log."""
        correlation = token_hex(16)
        if self._route.listener != "devices":
            given = request.headers.get("X-Correlation-Id", "")
            correlation = given if _CORRELATION.fullmatch(given) else correlation
        correlation_id.set(correlation)
        return correlation

    async def _answer(self, request: web.Request, correlation: str) -> web.StreamResponse:
        try:
            self._admit(request)
            await self._judge(request)
            request[ADMISSION] = Admission(partial(self._judge, request))
            return await self._route.handler(request)
        except Problem as problem:
            return self._refuse(request, problem, correlation)
        except web.HTTPException as error:
            return self._refuse(request, problem_of(error), correlation)
        except Exception as error:  # noqa: BLE001 (the last line of defence: never a stack trace)
            return self._refuse(request, self._failure(error), correlation)

    async def _judge(self, request: web.Request) -> None:
        """Whether the session or token behind it lives; asked again by answers that go on."""
        if self._door is not None:
            await self._door.admit(request, self._route)
        if self._revocations is not None:
            await self._refuse_revoked(request, self._revocations)

    def _refuse(self, request: web.Request, problem: Problem, correlation: str) -> web.Response:
        if self._door is not None:
            return self._door.refuse(request, problem, correlation)
        if self._route.listener == "devices":
            return device_response(problem)
        return problem_response(problem, correlation)

    def _failure(self, error: Exception) -> Problem:
        """What went wrong on our side, as far as the caller should know."""
        if isinstance(error, Overloaded):
            return Problem(503, "overloaded", "Too much at once; try again soon.").retry_after(5)
        if isinstance(error, InternalCallFailed) or is_transient(error):
            log.warning(
                "A request could not be served now",
                extra={"route": self._route.path, "why": type(error).__name__},
            )
            detail = "Something this needs is not reachable now; try again soon."
            return Problem(503, "unavailable", detail).retry_after(5)
        if is_unstorable_text(error):
            return Problem(400, "text_unusable", "A text in here holds NUL, which no text may.")
        log.error("A request failed", exc_info=error, extra={"route": self._route.path})
        return Problem(500, "failed", "This is our fault; the log has it by its correlation id.")

    def _admit(self, request: web.Request) -> None:
        """Identity first, then limits, all before a byte of the body is read."""
        request[ROUTE] = self._route
        if self._route.listener == "api" and not (self._route.public or self._route.page):
            self._admit_person(request)
        elif self._route.listener == "internal":
            self._admit_service(request)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Problem(415, "content_encoding", "Send the body as it is, not compressed.")
        if (request.content_length or 0) > self._route.max_body:
            raise too_large(self._route.max_body)

    def _admit_person(self, request: web.Request) -> None:
        claims = self._verified(request, self._verifier.access)
        source = claims.source or request.remote
        who = Caller(claims.actor, claims.permissions, source, claims.groups, claims.via)
        permission = self._route.permission or ""
        if self._route.scoped:
            who.reach(permission)
        else:
            who.require(permission)
        request[CALLER] = who

    async def _refuse_revoked(self, request: web.Request, revocations: Revocations) -> None:
        via = request[CALLER].via
        if via is not None and await revocations.has(via):
            metrics.TOKENS_REFUSED.labels(self._service).inc()
            raise _refused_token("The session or API token behind this was ended.")

    def _admit_service(self, request: web.Request) -> None:
        callers = self._route.callers
        claims = self._verified(request, lambda token: self._verifier.internal(token, callers))
        request[CALLER] = Caller(claims.actor, claims.permissions, request.remote)

    def _verified(self, request: web.Request, verify: Callable[[str], Claims]) -> Claims:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            return verify(token if scheme.lower() == "bearer" else "")
        except TokenRefused as refused:
            metrics.TOKENS_REFUSED.labels(self._service).inc()
            raise _refused_token(str(refused)) from None

    def _measure(self, status: int, seconds: float) -> None:
        route, measure = self._route, self._seconds.get(status)
        if measure is None:
            labels = (self._service, route.method, route.path, str(status))
            measure = self._seconds[status] = metrics.HTTP_SECONDS.labels(*labels)
        measure.observe(seconds)
        if seconds > SLOW_SECONDS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning(
                "A request was slow or failed",
                extra={
                    "method": route.method,
                    "route": route.path,
                    "status": status,
                    "milliseconds": round(seconds * 1000),
                },
            )


def _refused_token(why: str) -> Problem:
    problem = Problem(401, "token_refused", why)
    problem.headers["WWW-Authenticate"] = "Bearer"
    return problem
