"""What every event has: a type, a topic, a subject and, once it travelled, an envelope."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import UTC, datetime
from secrets import token_bytes
from typing import Annotated, Any, ClassVar, NamedTuple, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, PrivateAttr, StringConstraints

Id = UUID
Short = Annotated[str, StringConstraints(max_length=300)]
Text = Annotated[str, StringConstraints(max_length=4000)]


def uuid7(at: datetime | None = None) -> UUID:
    """A time-ordered id (RFC 9562 §5.7): 48 bits of milliseconds, 74 of chance."""
    milliseconds = int((at.timestamp() if at else time.time()) * 1000)
    value = milliseconds << 80 | int.from_bytes(token_bytes(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def uuid7_floor(at: datetime) -> UUID:
    """What is below every UUIDv7 made since `at`, and above all before it."""
    return UUID(int=int(at.timestamp() * 1000) << 80)


def uuid7_time(value: UUID) -> datetime:
    """When a UUIDv7 was made; the inbox refuses events by this age."""
    return datetime.fromtimestamp((value.int >> 80) / 1000, UTC)


class Part(BaseModel):
    """A piece of an event; unknown keys are ignored, so that a version may grow."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64"
    )


class Meta(Part):
    """The envelope: CloudEvents 1.0 attributes, carried as Kafka headers (binary mode)."""

    event_id: UUID
    sequence: int
    """The outbox row's id: rises in commit order for one entity; not gapless."""
    time: AwareDatetime
    source: str
    correlation_id: str | None = None
    causation_id: str | None = None
    traceparent: str | None = None


class Place(NamedTuple):
    """Where an event lies in Kafka."""

    topic: str
    partition: int
    offset: int


def _unsent(event: BaseModel, _context: Any) -> None:
    """A new event has no envelope, no cause and no trail."""
    private = {"_meta": None, "_place": None, "_cause": None, "_trail": None}
    object.__setattr__(event, "__pydantic_private__", private)


class Event(Part):
    """The base of every event model; the registry adds topic and owner."""

    TYPE: ClassVar[str]
    TOPIC: ClassVar[str]
    """May hold `{service}`: such a topic exists once for each service that writes it."""
    ADDS: ClassVar[bool] = False
    """It replaces nothing: its handler gets all of a batch at once, in the order it came in,
    however often a subject comes."""

    _meta: Meta | None = PrivateAttr(default=None)
    _place: Place | None = PrivateAttr(default=None)
    _cause: Meta | None = PrivateAttr(default=None)
    # None by default: anything else would be copied for every event that is made.
    _trail: tuple[str | None, str | None] | None = PrivateAttr(default=None)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        # pydantic's own start of private attributes works out each default anew, once for every
        # class on the way: it took longer than all fields of an event together.
        cls.model_post_init = _unsent  # type: ignore[method-assign]

    @property
    def subject(self) -> str:
        """The Kafka key: the id of what the event is about, a device nearly always."""
        device = getattr(self, "device_id", None)
        if device is None:
            raise TypeError(f"{type(self).__name__} names no subject")
        return str(device)

    @property
    def device(self) -> UUID | None:
        """The device that the event is about; None: none, or many."""
        return getattr(self, "device_id", None)

    @property
    def devices(self) -> Collection[UUID]:
        """The devices whose rows are locked before the event is handled."""
        device = self.device
        return () if device is None else (device,)

    @property
    def meta(self) -> Meta:
        """The envelope of an event that was received."""
        meta: Meta | None = self._private("_meta")
        if meta is None:
            raise ValueError("an event has an envelope only after it travelled")
        return meta

    @property
    def place(self) -> Place:
        """Where an event that was received lies."""
        place: Place | None = self._private("_place")
        if place is None:
            raise ValueError("an event has a place only after it travelled")
        return place

    @property
    def cause(self) -> Meta | None:
        cause: Meta | None = self._private("_cause")
        return cause

    def received(self, meta: Meta) -> Self:
        """The same event with the envelope it arrived in."""
        self._meta = meta
        return self

    def lying(self, place: Place) -> Self:
        """The same event with the place it was read from."""
        self._place = place
        return self

    def because(self, cause: Event) -> Self:
        """Name the event that led to this one: its correlation goes on, its id is the cause."""
        self._cause = cause._private("_meta")
        return self

    def along(self, correlation_id: str | None, traceparent: str | None) -> Self:
        """Name the request that led to this event, where a batch serves many requests."""
        self._trail = (correlation_id, traceparent)
        return self

    @property
    def trail(self) -> tuple[str | None, str | None]:
        """Correlation and trace of the request that led to this event."""
        return self._private("_trail") or (None, None)

    def _private(self, name: str) -> Any:
        # Several times an event: pydantic's own way to a private attribute takes far longer.
        private = self.__pydantic_private__
        return private[name] if private else None

    def payload(self) -> dict[str, Any]:
        return self.model_dump(mode="json")
