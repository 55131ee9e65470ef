"""`make openapi`: one OpenAPI 3.1 document from the routes of all services."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shared.runtime.routes import Route
from shared.runtime.service import Service
from shared.runtime.settings import ListenerName
from tools.cli import generated, services

FILE = "docs/openapi.json"
_SEGMENT = re.compile(r"\{(\w+)(?::[^{}]*)?\}")
_REF = "#/components/schemas/{model}"
Mode = Literal["validation", "serialization"]
Model = tuple[type[BaseModel], Mode]


class ProblemBody(BaseModel):
    """A refusal (RFC 9457); some codes add fields of their own."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    """For programs: stable, `device_unknown`."""
    correlation_id: str | None


_PROBLEM: Model = (ProblemBody, "serialization")
_LISTENERS: dict[ListenerName, str] = {
    "api": "People and API clients: access tokens of the console, one audience each",
    "devices": "Devices: the vendors' own protocols",
    "internal": "Service to service; never routed by an ingress",
}


def files() -> dict[str, str]:
    document = Document(services.load_all()).build()
    return {FILE: json.dumps(document, indent=1, ensure_ascii=False) + "\n"}


def main(*, check: bool) -> int:
    return generated.run(files(), swept={}, check=check, target="openapi")


class Document:
    """Merges the routes of services; every model is named once, also when two share a name."""

    def __init__(self, of: Sequence[Service[Any]]) -> None:
        self._services = of
        models = [_PROBLEM, *(model for _, route in self._routes() for model in _models(route))]
        references, schemas = models_json_schema(list(dict.fromkeys(models)), ref_template=_REF)
        self._references = references
        self._schemas = {n: _without_markers(s) for n, s in schemas.get("$defs", {}).items()}

    def _routes(self) -> Iterator[tuple[Service[Any], Route]]:
        for service in self._services:
            for route in service.routes:
                if not route.page:
                    yield service, route

    def build(self) -> dict[str, Any]:
        paths: dict[str, dict[str, Any]] = {}
        for service, route in self._routes():
            operations = paths.setdefault(_SEGMENT.sub(r"{\1}", route.path), {})
            operations[route.method.lower()] = self._operation(service.name, route)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Muster",
                "version": "1",
                "description": "Made by `make openapi` from the routes of the services.",
            },
            "servers": [{"url": "/"}],
            "tags": [{"name": s.name, "description": s.summary} for s in self._services],
            "paths": dict(sorted(paths.items())),
            "components": {
                "schemas": self._used(paths),
                "securitySchemes": {
                    "access": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                    "internal": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                },
            },
        }

    def _operation(self, service: str, route: Route) -> dict[str, Any]:
        described = [_LISTENERS[route.listener] + "."]
        if route.permission:
            described.append(f"Needs the permission `{route.permission}`.")
        if route.callers:
            described.append(f"Called by {', '.join(route.callers)}.")
        operation: dict[str, Any] = {
            "operationId": _operation_id(service, route),
            "summary": route.summary,
            "description": " ".join(described),
            "tags": [service],
            "parameters": [*_path_parameters(route), *self._query_parameters(route)],
            "responses": self._responses(route),
            "security": _security(route),
            "x-muster-listener": route.listener,
        }
        if route.body is not None:
            content = {"application/json": {"schema": self._reference((route.body, "validation"))}}
            operation["requestBody"] = {"required": True, "content": content}
        return operation

    def _responses(self, route: Route) -> dict[str, Any]:
        good: dict[str, Any] = {"description": "Done"}
        if route.answer is not None:
            schema = self._reference((route.answer, "serialization"))
            good["content"] = {"application/json": {"schema": schema}}
        if route.listener == "devices":
            refused: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
        else:
            refused = {"application/problem+json": {"schema": self._reference(_PROBLEM)}}
        return {
            str(route.status): good,
            "default": {"description": "Refused", "content": refused},
        }

    def _query_parameters(self, route: Route) -> list[dict[str, Any]]:
        if route.query is None:
            return []
        schema = self._schemas[self._name((route.query, "validation"))]
        required = schema.get("required", [])
        return [
            {"name": name, "in": "query", "required": name in required, "schema": field}
            for name, field in schema.get("properties", {}).items()
        ]

    def _reference(self, model: Model) -> dict[str, Any]:
        return dict(self._references[model])

    def _name(self, model: Model) -> str:
        return str(self._references[model]["$ref"]).rpartition("/")[2]

    def _used(self, paths: dict[str, Any]) -> dict[str, Any]:
        """The schemas that something refers to: those of queries became parameters."""
        used: set[str] = set()
        waiting = _referred(paths)
        while waiting:
            name = waiting.pop()
            if name not in used:
                used.add(name)
                waiting |= _referred(self._schemas[name])
        return {name: self._schemas[name] for name in sorted(used)}


def _without_markers(schema: dict[str, Any]) -> dict[str, Any]:
    """Leave out defaults that the schema itself refuses: a validator fills those fields in."""
    for field in schema.get("properties", {}).values():
        default, pattern = field.get("default"), field.get("pattern")
        if isinstance(default, str) and pattern and not re.search(pattern, default):
            del field["default"]
    return schema


def _models(route: Route) -> Iterator[Model]:
    for model in (route.query, route.body):
        if model is not None:
            yield model, "validation"
    if route.answer is not None:
        yield route.answer, "serialization"


def _referred(value: Any) -> set[str]:
    return set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(value)))


def _operation_id(service: str, route: Route) -> str:
    """From method and path, so that it is as unique as they are."""
    path = _SEGMENT.sub(r"by_\1", re.sub(r"^/(api|internal)/v1/", "", route.path))
    return f"{service}_{route.method.lower()}_{re.sub(r'[^a-z0-9]+', '_', path.lower()).strip('_')}"


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", **({"format": "uuid"} if name.endswith("_id") else {})},
        }
        for name in _SEGMENT.findall(route.path)
    ]


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.listener == "internal":
        return [{"internal": []}]
    return [{"access": []}] if route.permission else []
