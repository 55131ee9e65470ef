"""The rules a policy is made of: typed, validated, and aware of which inputs they read."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from services.compliance import versions
from shared.events.devices import Platform

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Label = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=300, pattern=r"^[^\x00]+$"),
]
FactName = Annotated[
    str, StringConstraints(max_length=100, pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$")
]
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Scalar = bool | Whole | Number | Label

SEEN = "seen"
APPLICATIONS = "section:applications"


def fact_input(name: str) -> str:
    return f"fact:{name}"


def application_input(identifier: str) -> str:
    return f"app:{identifier}"


def _version(text: str) -> str:
    if versions.parse(text) is None:
        raise ValueError("write a version as numbers and dots, such as 17.4")
    return text


class BaseRule(BaseModel):
    """What all rules have. The id names the rule across versions of its policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    READS: ClassVar[frozenset[str]] = frozenset()

    id: Slug = ""
    """Unique in its policy; without it: the kind."""
    title: Label | None = None
    advice: Label | None = None
    """What the person who uses the device should do."""
    platforms: list[Platform] = Field(default=[], max_length=20)
    """Where the rule means anything; empty: everywhere."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("id"):
            return {**values, "id": values.get("kind")}
        return values

    @property
    def reads(self) -> frozenset[str]:
        """The inputs whose change may change this rule's finding."""
        return self.READS


class PasscodePresent(BaseRule):
    """A passcode is set. Macs do not report one: leave them out by `platforms`."""

    READS: ClassVar = frozenset({fact_input("passcode.present")})
    kind: Literal["passcode_present"] = "passcode_present"


class EncryptionOn(BaseRule):
    """Data at rest is protected."""

    READS: ClassVar = frozenset({fact_input("encryption.enabled")})
    kind: Literal["encryption_on"] = "encryption_on"


class OsAtLeast(BaseRule):
    """The operating system is new enough; platforms that are not named are not judged."""

    READS: ClassVar = frozenset({fact_input("os.version")})
    kind: Literal["os_at_least"] = "os_at_least"
    versions: dict[Platform, Annotated[str, StringConstraints(max_length=40)]] = Field(
        min_length=1, max_length=20
    )

    @field_validator("versions")
    @classmethod
    def _valid(cls, wanted: dict[Platform, str]) -> dict[Platform, str]:
        return {platform: _version(text) for platform, text in wanted.items()}


class _ApplicationRule(BaseRule):
    identifiers: list[Label] = Field(min_length=1, max_length=200)

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({APPLICATIONS, *map(application_input, self.identifiers)})


class AppForbidden(_ApplicationRule):
    """None of these applications is installed."""

    kind: Literal["app_forbidden"] = "app_forbidden"


class AppRequired(_ApplicationRule):
    """All of these applications are installed."""

    kind: Literal["app_required"] = "app_required"


class LastSeenWithin(BaseRule):
    """The device spoke in the last so many hours."""

    READS: ClassVar = frozenset({SEEN})
    kind: Literal["last_seen_within"] = "last_seen_within"
    hours: Number = Field(ge=2, le=24 * 365)
    """At least two: signs of life are told once an hour."""


Operator = Literal[
    "eq", "ne", "lt", "le", "gt", "ge", "in", "not_in", "contains", "version_at_least"
]
_ORDERED = {"lt", "le", "gt", "ge"}
_LISTED = {"in", "not_in"}


class Attribute(BaseRule):
    """A fact compares with a value as `operator` says."""

    kind: Literal["attribute"] = "attribute"
    fact: FactName
    operator: Operator
    value: Scalar | Annotated[list[Scalar], Field(min_length=1, max_length=200)]

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({fact_input(self.fact)})

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        value, listed = self.value, isinstance(self.value, list)
        if listed != (self.operator in _LISTED):
            raise ValueError("`in` and `not_in` take a list, the other operators one value")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if self.operator in _ORDERED and not number:
            raise ValueError("lt, le, gt and ge compare numbers; versions: version_at_least")
        if self.operator in {"contains", "version_at_least"} and not isinstance(value, str):
            raise ValueError(f"{self.operator} takes text")
        if self.operator == "version_at_least":
            _version(str(value))
        return self


Rule = Annotated[
    PasscodePresent
    | EncryptionOn
    | OsAtLeast
    | AppForbidden
    | AppRequired
    | LastSeenWithin
    | Attribute,
    Field(discriminator="kind"),
]
