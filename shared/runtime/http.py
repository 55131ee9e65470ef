"""What handlers use: parse the request, name the caller, render the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_origin
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import BaseModel, TypeAdapter, ValidationError

from shared.runtime import long_bodies, turns
from shared.runtime.connections import LimitedConnection
from shared.runtime.paging import Page, decode_cursor, encode_cursor
from shared.runtime.problems import Problem
from shared.runtime.routes import Route

__all__ = [
    "BODY_SECONDS",
    "CALLER",
    "ROUTE",
    "Caller",
    "Page",
    "Problem",
    "Reach",
    "arrived",
    "caller",
    "decode_cursor",
    "encode_cursor",
    "hold",
    "invalid",
    "parse_body",
    "parse_long_body",
    "parse_query",
    "parting",
    "path_id",
    "read_body",
    "render",
]

M = TypeVar("M", bound=BaseModel)
BODY_SECONDS = 30.0
_MAX_FAULTS = 20
_LONG_BYTES = 64 * 1024


Reach = list[UUID] | None
"""The static groups whose devices may be seen or touched; None: all devices. A parameter of SQL:
`$1::uuid[] IS NULL OR groups && $1`."""


@dataclass(frozen=True)
class Caller:
    """Who asks, proven by the token; `source` is the peer's address, for the audit."""

    actor: str
    permissions: frozenset[str]
    """On all devices."""
    source: str | None = None
    groups: Mapping[UUID, frozenset[str]] = field(default_factory=dict)
    """On the devices of a static group only."""
    via: str | None = None
    """The session or API token behind the access token."""

    def may(self, permission: str) -> bool:
        """Whether it is held on all devices."""
        return permission in self.permissions or "*" in self.permissions

    def require(self, permission: str) -> None:
        """Refuse who does not hold it on all devices."""
        if self.may(permission):
            return
        if self._where(permission):
            detail = f"This needs the permission {permission} on all devices, not on a group."
            raise Problem(403, "permission_on_all_missing", detail)
        raise Problem(403, "permission_missing", f"This needs the permission {permission}.")

    def reach(self, *permissions: str) -> Reach:
        """Where all of these are held; refuses who holds one of them nowhere, or has no group with
        all of them. Whoever calls this must pass it on.
        """
        places = [self._where(one) for one in permissions if not self.may(one)]
        if not places:
            return None
        held = sorted(set.intersection(*map(set, places)))
        if not held:
            needed = " and ".join(permissions)
            raise Problem(403, "permission_missing", f"This needs the permission {needed}.")
        return held

    def _where(self, permission: str) -> list[UUID]:
        return sorted(
            group for group, held in self.groups.items() if permission in held or "*" in held
        )


@dataclass(frozen=True)
class Admission:
    """Whether who asked may still be answered; raises Problem."""

    judge: Callable[[], Awaitable[None]]


CALLER = web.RequestKey("caller", Caller)
ADMISSION = web.RequestKey("admission", Admission)
ROUTE = web.RequestKey("route", Route)


def caller(request: web.Request) -> Caller:
    """The proven caller; on a route that anybody may use, an anonymous one without rights."""
    return request.get(CALLER) or Caller("anonymous", frozenset(), request.remote)


def parse_query(request: web.Request, model: type[M]) -> M:
    """The query string as `model`; a list field takes a repeated parameter."""
    values: dict[str, Any] = {}
    for name in request.query:
        field = model.model_fields.get(name)
        many = field is not None and get_origin(field.annotation) in {list, tuple, set}
        values[name] = request.query.getall(name) if many else request.query[name]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid(error, 400, "query_invalid", "The query is not valid.") from None


def path_id(request: web.Request, name: str) -> UUID:
    """The UUID in the path; what is none names nothing, so it is a 404."""
    try:
        return UUID(request.match_info[name])
    except ValueError:
        code = name.removesuffix("_id") + "_unknown"
        raise Problem(404, code, f"{name} in the path is no UUID.") from None


async def parse_body(request: web.Request, model: type[M], data: bytes | None = None) -> M:
    """The JSON body as `model`; refuses other content types, rubbish and what is too large.

    `data`: the body, where it was read already.
    """
    _want_json(request)
    try:
        return model.model_validate_json(await read_body(request) if data is None else data)
    except ValidationError as error:
        raise invalid(error, 422, "body_invalid", "The body is not valid.") from None


async def parse_long_body(request: web.Request, model: type[M], long: str) -> M:
    """Like `parse_body`, for a model whose list `long` may have very many entries.

    They are read and checked in pieces, so that other requests are served in between; the model's
    own checks see an empty list.
    """
    _want_json(request)
    data = await read_body(request)
    parts = long_bodies.split(data, long) if len(data) > _LONG_BYTES else None
    if parts is None:
        return await parse_body(request, model, data)
    annotation: Any = model.model_fields[long].annotation
    adapter: TypeAdapter[list[Any]] = TypeAdapter(annotation)
    try:
        parsed = model.model_validate(parts.rest)
        found: list[Any] = []
        for piece in parts.pieces():
            found += adapter.validate_json(piece)
            await turns.pause()
    except ValidationError as error:
        raise invalid(error, 422, "body_invalid", "The body is not valid.") from None
    return parsed.model_copy(update={long: found})


def _want_json(request: web.Request) -> None:
    if request.content_type != "application/json":
        raise Problem(415, "json_wanted", "Send the body as application/json.")


async def read_body(request: web.Request, limit: int | None = None) -> bytes:
    """All bytes of the body, at most `limit` (default: the route's), within thirty seconds."""
    if limit is None:
        limit = request[ROUTE].max_body
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    if (whole := arrived(request)) is not None:
        return whole
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                hold(request, len(chunk))
                data += chunk
                if len(data) > limit:
                    raise too_large(limit)
    except TimeoutError:
        raise Problem(408, "body_slow", "The body took too long to arrive.") from None
    return bytes(data)


def arrived(request: web.Request) -> bytes | None:
    """All bytes of a body of known length that is here already, as a small one nearly always is."""
    if request.content_length is None or not request.content.is_eof():
        return None
    data = request.content.read_nowait()
    hold(request, len(data))
    return data


def hold(request: web.Request, size: int) -> None:
    """Count bytes of the body that stay in memory until the request is answered.

    Raises Overloaded (503) when all bodies of the listener together are too many.
    """
    if isinstance(connection := request.protocol, LimitedConnection):
        connection.hold(size)


def parting(request: web.Request) -> bool:
    """Whether an answer that goes on should end: its reader is gone, or this listener drains."""
    connection = request.protocol
    drains = isinstance(connection, LimitedConnection) and connection.draining
    return drains or request.transport is None or request.transport.is_closing()


async def still_admitted(request: web.Request) -> None:
    """What an answer that goes on for long asks now and then: raises Problem once the session or
    token behind the request has ended.
    """
    await request[ADMISSION].judge()


def too_large(limit: int) -> Problem:
    return Problem(413, "body_too_large", f"The body may hold at most {limit} bytes.")


def render(value: BaseModel | Mapping[str, Any], status: int = 200) -> web.Response:
    """JSON of a model or of a mapping that may hold models, UUIDs and instants."""
    if isinstance(value, BaseModel):
        data = value.model_dump_json().encode()
    else:
        data = orjson.dumps(value, default=_plain)
    return web.Response(body=data, status=status, content_type="application/json")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


def invalid(error: ValidationError, status: int, code: str, detail: str) -> Problem:
    """Places and reasons, never the values: they may be secrets."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    errors = [
        {"at": ".".join(str(part) for part in fault["loc"]), "why": fault["msg"]}
        for fault in faults[:_MAX_FAULTS]
    ]
    return Problem(status, code, detail, errors=errors)
