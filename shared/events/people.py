"""`muster.people.v1`: news of who may say who people are. By the console."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime

from shared.events.base import Event, Short


class ProviderChanged(Event):
    """An identity provider was made or changed, by a person; its secret is not in here."""

    TYPE: ClassVar[str] = "muster.identity_provider.changed.v1"
    TOPIC: ClassVar[str] = "muster.people.v1"
    provider_id: UUID
    name: Short
    issuer: Short
    client_id: Short | None
    enabled: bool
    newcomers: bool
    """Whom nobody linked gets an account that holds nothing."""
    change: Short
    """As the audit names it."""
    by: Short
    changed_at: AwareDatetime

    @property
    def subject(self) -> str:
        return f"identity_provider:{self.provider_id}"

    @property
    def device(self) -> None:
        return None


class SealedAccountUsed(Event):
    """An alarm: somebody opened an account that is there for emergencies alone."""

    TYPE: ClassVar[str] = "muster.sealed_account.used.v1"
    TOPIC: ClassVar[str] = "muster.people.v1"
    account_id: UUID
    name: Short
    used_at: AwareDatetime
    source: Short | None
    """The peer's address."""

    @property
    def subject(self) -> str:
        return f"account:{self.account_id}"

    @property
    def device(self) -> None:
        return None
