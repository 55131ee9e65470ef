"""`muster.audit.<service>.v1`: every change by a person, token or rule. Each service its own.
`muster.audit-root.v1`: signed statements about all of them, by the console.
"""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from shared.events.base import Event, Short


class AuditRecorded(Event):
    """Who did what to what; values are masked where they are secret."""

    TYPE: ClassVar[str] = "muster.audit.recorded.v1"
    TOPIC: ClassVar[str] = "muster.audit.{service}.v1"
    ADDS: ClassVar[bool] = True
    audit_id: UUID
    actor: Short
    permission: Short
    action: Short
    target: Short
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    reason: Short | None = None
    source: Short | None = None
    """The peer address, or `job:NAME`."""
    via: Short | None = None
    """The session or API token that acted: a token acts in its owner's name."""

    @property
    def subject(self) -> str:
        return self.target

    @property
    def device(self) -> None:
        return None


class AuditRootSigned(Event):
    """The audit stands so: whoever keeps this can prove later what was in it (decision 54).

    Hashes and the Ed25519 signature are lower-case hex.
    """

    TYPE: ClassVar[str] = "muster.audit.root_signed.v1"
    TOPIC: ClassVar[str] = "muster.audit-root.v1"
    ADDS: ClassVar[bool] = True
    number: int
    signed_at: Short
    """As it was signed, to the microsecond."""
    previous: Short
    """The hash of the root before."""
    heads: Short
    """The hash of all chains' last links."""
    chains: int
    links: int
    key_id: Short
    signature: Short

    @property
    def subject(self) -> str:
        return "audit"

    @property
    def device(self) -> None:
        return None
