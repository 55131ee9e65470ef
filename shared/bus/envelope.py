"""CloudEvents 1.0 in Kafka's binary mode: attributes as headers, the model's JSON as value."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from shared.bus.handlers import Poison
from shared.db.errors import describe
from shared.events import Event, Meta
from shared.events.registry import EVENTS

Headers = Sequence[tuple[str, bytes]]
CONTENT_TYPE: Final = "application/json"


def source_of(service: str) -> str:
    """`ce_source`: which service an event comes from."""
    return f"/muster/{service}"


def schema_of(event_type: str) -> str:
    """`ce_dataschema`: the name under which the type's JSON Schema is published."""
    return f"urn:muster:event:{event_type}"


def encode(event_type: str, subject: str, meta: Meta) -> list[tuple[str, bytes]]:
    """Return the headers of an event."""
    fields = {
        "ce_specversion": "1.0",
        "ce_id": str(meta.event_id),
        "ce_type": event_type,
        "ce_source": meta.source,
        "ce_time": meta.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "ce_subject": subject,
        "ce_sequence": str(meta.sequence),
        "ce_correlationid": meta.correlation_id,
        "ce_causationid": meta.causation_id,
        "ce_dataschema": schema_of(event_type),
        "content-type": CONTENT_TYPE,
        "traceparent": meta.traceparent,
    }
    return [(name, value.encode()) for name, value in fields.items() if value is not None]


def type_of(headers: Headers) -> str | None:
    """`ce_type`, without reading anything else; None when it is missing."""
    value = next((value for name, value in headers if name == "ce_type"), None)
    return None if value is None else value.decode(errors="replace")


def decode(headers: Headers, value: bytes | None) -> Event:
    """Return the event of a record with its envelope; raises Poison when it cannot be one."""
    try:
        fields = {name: value.decode() for name, value in headers}
        model = EVENTS[fields["ce_type"]]
        meta = Meta(
            event_id=fields["ce_id"],
            sequence=fields["ce_sequence"],
            time=datetime.fromisoformat(fields["ce_time"]),
            source=fields["ce_source"],
            correlation_id=fields.get("ce_correlationid"),
            causation_id=fields.get("ce_causationid"),
            traceparent=fields.get("traceparent"),
        )
        return model.model_validate_json(value or b"").received(meta)
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise Poison(f"not an event of ours: {describe(error)}", reason="malformed") from error
