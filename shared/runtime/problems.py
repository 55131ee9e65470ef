"""How a request is refused: problem+json (RFC 9457) for people, a short line for devices."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web


class Problem(Exception):  # noqa: N818 (it is the RFC's word, and not always an error of ours)
    """A refusal that says what to do next.

    `code` is for programs (`device_unknown`), `detail` for people; `extra` joins the body.
    """

    def __init__(self, status: int, code: str, detail: str, **extra: Any) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.extra = extra
        self.headers: dict[str, str] = {}

    def retry_after(self, seconds: int) -> Problem:
        self.headers["Retry-After"] = str(seconds)
        return self

    def body(self, correlation_id: str | None) -> dict[str, Any]:
        return {
            "type": f"urn:muster:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "correlation_id": correlation_id,
            **self.extra,
        }


def problem_response(problem: Problem, correlation_id: str | None) -> web.Response:
    return web.Response(
        body=orjson.dumps(problem.body(correlation_id), default=str),
        status=problem.status,
        content_type="application/problem+json",
        headers=problem.headers,
    )


def device_response(problem: Problem) -> web.Response:
    """The device listener's form: bounded plain text, and never 401.

    Apple devices that must stay enrolled take a 401 as the end of management.
    """
    status = 403 if problem.status == HTTPStatus.UNAUTHORIZED else problem.status
    return web.Response(
        text=f"{problem.code}\n"[:200],
        status=status,
        content_type="text/plain",
        headers=problem.headers,
    )


def problem_of(error: web.HTTPException) -> Problem:
    """The refusals of aiohttp itself (no such path, wrong method) in our form."""
    problem = Problem(error.status, error.reason.lower().replace(" ", "_"), error.reason)
    if allow := error.headers.get("Allow"):
        problem.headers["Allow"] = allow
    return problem
