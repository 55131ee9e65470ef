"""`muster.access.v1`, compacted: who may what and since when, and what was revoked. By the console.

No secret is in it: public keys only. Others judge by the ages: new power waits.
"""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime

from shared.events.base import Event, Part, Short


class HeldRole(Part):
    """A role with what it held when this was told; without a group it is on all devices."""

    role_id: Short
    permissions: list[Short]
    group_id: UUID | None = None
    since: AwareDatetime


class ApproverKey(Part):
    """A WebAuthn key: COSE public key and credential id, base64."""

    passkey_id: UUID
    credential_id: bytes
    public_key: bytes
    since: AwareDatetime


class LinkedIdentity(Part):
    """A way in by an identity provider; who they are there stays in the console."""

    provider_id: UUID
    since: AwareDatetime


class AccountState(Event):
    """An account as it is now; replaces what was known of it."""

    TYPE: ClassVar[str] = "muster.account.state.v1"
    TOPIC: ClassVar[str] = "muster.access.v1"
    account_id: UUID
    name: Short
    disabled: bool
    created_at: AwareDatetime
    reset_at: AwareDatetime | None
    """When its credentials were last set anew by a link that somebody else made."""
    set_up: bool = False
    """Made by the set-up link, and holds still what that gave it."""
    roles: list[HeldRole]
    keys: list[ApproverKey]
    identities: list[LinkedIdentity] = []
    sealed: bool = False
    """For emergencies: opened by a key alone, with an alarm to all."""

    @property
    def subject(self) -> str:
        return f"account:{self.account_id}"

    @property
    def device(self) -> None:
        return None


class ViaRevoked(Event):
    """A session or API token ended: access tokens made from it count no more."""

    TYPE: ClassVar[str] = "muster.access.revoked.v1"
    TOPIC: ClassVar[str] = "muster.access.v1"
    via: Short
    revoked_at: AwareDatetime

    @property
    def subject(self) -> str:
        return f"via:{self.via}"

    @property
    def device(self) -> None:
        return None
