"""`make events`: schemas, AsyncAPI, topic and ACL manifests, docs/events.md: from the registry."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from typing import Any, get_args

import yaml
from pydantic.fields import FieldInfo

from shared.events.base import Event
from shared.events.registry import EVENTS, SERVICES, TOPICS, Topic
from tools.cli import generated
from tools.embedded import topics as broker

FOLDER = "deploy/events"
DAY_MS = 86_400_000
_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
PRODUCTION = {"partitions": 24, "replicas": 3}
_NOTE = "# Made by `make events` from shared/events; do not edit.\n"


def files() -> dict[str, str]:
    """Every generated file: path to text."""
    made = {f"{FOLDER}/{name}.schema.json": _json(_schema(m)) for name, m in EVENTS.items()}
    made[f"{FOLDER}/asyncapi.yaml"] = _yaml(asyncapi())
    made[f"{FOLDER}/topics.yaml"] = _yaml({"topics": [_topic(t) for t in _topics()]})
    made[f"{FOLDER}/acls.yaml"] = _yaml({"acls": acls()})
    made["docs/events.md"] = document()
    return made


def main(*, check: bool) -> int:
    swept = {FOLDER: "*"}
    return generated.run(files(), swept=swept, check=check, target="events")


def events_on(topic: Topic) -> list[type[Event]]:
    """The event types that travel on a topic."""
    return [
        model for model in EVENTS.values() if model.TOPIC.format(service=topic.owner) == topic.name
    ]


def _topics() -> list[Topic]:
    return sorted(TOPICS.values(), key=lambda topic: topic.name)


def _schema(model: type[Event]) -> dict[str, Any]:
    schema = model.model_json_schema(mode="serialization")
    return {"$schema": _SCHEMA, "$id": f"urn:muster:event:{model.TYPE}", **schema}


def _topic(topic: Topic) -> dict[str, Any]:
    config: dict[str, Any] = {"min.insync.replicas": 2}
    if topic.retention_ms is None:
        config["cleanup.policy"] = "compact"
    else:
        config |= {"cleanup.policy": "delete", "retention.ms": topic.retention_ms}
    return {"name": topic.name, "owner": topic.owner, **PRODUCTION, "config": config}


def acls() -> list[dict[str, Any]]:
    """The rights that the embedded broker sets too: one source for both."""
    rows = [
        {
            "principal": right.principal,
            "resource": _word(right.restype),
            "name": right.name,
            "pattern": _word(right.resource_pattern_type),
            "operation": _word(right.operation),
        }
        for right in broker.rights(broker.declared(), SERVICES)
    ]
    return sorted(rows, key=lambda row: tuple(row.values()))


def _word(value: Any) -> str:
    """The lower-case name of one of confluent-kafka's enumerations."""
    return str(value.name).lower()


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0: a channel a topic, a send operation a topic by its one writer."""
    shown = [topic for topic in _topics() if events_on(topic)]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Muster events",
            "version": "1",
            "description": "CloudEvents 1.0 in Kafka's binary mode: attributes are headers, the "
            "value is the data as JSON, the key is the id of the subject.",
        },
        "defaultContentType": "application/json",
        "channels": {_key(t.name): _channel(t) for t in shown},
        "operations": {f"send_{_key(t.name)}": _operation(t) for t in shown},
        "components": {
            "messages": {_key(name): _message(model) for name, model in EVENTS.items()},
            "messageTraits": {"cloudEvent": {"headers": _headers()}},
        },
    }


def _channel(topic: Topic) -> dict[str, Any]:
    names = [_key(model.TYPE) for model in events_on(topic)]
    return {
        "address": topic.name,
        "description": f"Written by {topic.owner} only; {_kept(topic)}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"kafka": {"topic": topic.name, **PRODUCTION}},
    }


def _operation(topic: Topic) -> dict[str, Any]:
    channel = f"#/channels/{_key(topic.name)}"
    return {
        "action": "send",
        "title": f"{topic.owner} writes {topic.name}",
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{_key(m.TYPE)}"} for m in events_on(topic)],
    }


def _message(model: type[Event]) -> dict[str, Any]:
    return {
        "name": model.TYPE,
        "title": model.__name__,
        "summary": _summary(model),
        "contentType": "application/json",
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "payload": {"$ref": f"./{model.TYPE}.schema.json"},
    }


HEADERS = {
    "ce_specversion": "`1.0`",
    "ce_id": "UUIDv7 of the event",
    "ce_type": "`muster.device.enrolled.v1`, …",
    "ce_source": "`/muster/<service>`",
    "ce_time": "When it was written, RFC 3339",
    "ce_subject": "What it is about: the Kafka key again",
    "ce_sequence": "Rises in commit order for one subject; not gapless",
    "ce_correlationid": "The same for everything that one request or check-in led to",
    "ce_causationid": "The id of the event that led to this one",
    "ce_dataschema": "The schema's id",
    "traceparent": "W3C trace context",
}
_OPTIONAL = {"ce_correlationid", "ce_causationid", "traceparent"}


def _headers() -> dict[str, Any]:
    return {
        "type": "object",
        "required": [name for name in HEADERS if name not in _OPTIONAL],
        "properties": {
            name: {"type": "string", "description": text} for name, text in HEADERS.items()
        },
    }


INTRODUCTION = """\
What the services tell each other and everybody who listens: CloudEvents 1.0 on Kafka, binary mode.
The value is JSON, the key is the id of the subject. Inside a version changes only add: ignore what
you do not know. Delivery is at least once: remember `ce_id`. Schemas and an AsyncAPI document lie
in `deploy/events/`."""


def document() -> str:
    """docs/events.md: topics, headers, and each event with its fields."""
    lines = [
        "# Events",
        "",
        "<!-- Made by `make events` from shared/events; do not edit. -->",
        "",
        INTRODUCTION,
        "",
        "## Topics",
        "",
        *_table(
            ("topic", "written by", "keeps"),
            ((f"`{t.name}`", t.owner, _kept(t)) for t in _topics()),
        ),
        "",
        "## Headers",
        "",
        *_table(("header", "holds"), ((f"`{name}`", text) for name, text in HEADERS.items())),
        "",
        "## Event types",
    ]
    for model in EVENTS.values():
        lines += ["", *_event(model)]
    return "\n".join(lines) + "\n"


def _event(model: type[Event]) -> list[str]:
    rows = (
        (f"`{name}`", _type(field), "" if field.is_required() else "optional")
        for name, field in model.model_fields.items()
    )
    return [
        f"### {model.TYPE}",
        "",
        f"On `{model.TOPIC.format(service='<service>')}`. {_summary(model)}".strip(),
        "",
        *_table(("field", "type", ""), rows),
    ]


def _type(field: FieldInfo) -> str:
    return f"`{_name_of(field.annotation)}`".replace("|", "\\|")


def _name_of(annotation: Any) -> str:
    if annotation is type(None):
        return "null"
    arguments = get_args(annotation)
    name = getattr(annotation, "__name__", str(annotation))
    if not arguments:
        return name if inspect.isclass(annotation) else repr(annotation)
    if name in {"Annotated", "AwareDatetime"}:
        return _name_of(arguments[0])
    inner = [_name_of(argument) for argument in arguments]
    if name in {"list", "dict"}:
        return f"{name}[{', '.join(inner)}]"
    return " | ".join(inner)


def _summary(model: type[Event]) -> str:
    text = inspect.cleandoc(model.__doc__ or "") if "__doc__" in vars(model) else ""
    return " ".join(text.split())


def _kept(topic: Topic) -> str:
    if topic.retention_ms is None:
        return "compacted: the newest of each key"
    days = topic.retention_ms // DAY_MS
    return f"{days} day" + ("s" if days > 1 else "")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def _key(name: str) -> str:
    return name.replace(".", "_")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _yaml(value: Any) -> str:
    return _NOTE + yaml.safe_dump(value, sort_keys=False, width=100, allow_unicode=True)
