"""Credentials: who may enroll, how often, until when, and as what."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store import credentials as store
from services.enrollment.store.credentials import Credential
from shared.db.pool import Pool, connected, transaction
from shared.events.base import uuid7
from shared.events.devices import Ownership, Platform
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.problems import Problem

WRITE = "enrollment.credential.write"
_LONGEST = timedelta(days=365)
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


class NewCredential(BaseModel):
    """What a credential allows. Single use and bound to nothing but its ownership by default."""

    model_config = ConfigDict(extra="forbid")

    name: Name = "enrollment"
    max_uses: int = Field(default=1, ge=1, le=100_000)
    expires_at: AwareDatetime | None = None
    ownership: Ownership = Ownership.CORPORATE
    platform: Platform | None = None
    serial: Name | None = None
    """Only this hardware; what is known under this serial may come back with a new certificate."""
    serials: Literal["listed", "any"] = "listed"
    """Whether hardware that is on no list waits in the lobby; `serial` needs no list."""
    user: Name | None = None
    """Whom devices that enroll with it belong to."""
    unsigned_allowed: bool = False
    """The profile may be fetched unsigned, for clients that cannot read a signed one."""


class Credentials:
    """Makes, lists and revokes credentials."""

    def __init__(self, pool: Pool, settings: EnrollmentSettings, clock: Clock) -> None:
        self._pool, self._settings, self._clock = pool, settings, clock

    async def create(self, wanted: NewCredential, caller: Caller) -> tuple[Credential, str]:
        """Return the credential and its enrollment address, which is shown this once."""
        now = self._clock.now()
        expires = wanted.expires_at or now + timedelta(days=self._settings.credential_days)
        if not now < expires <= now + _LONGEST:
            raise Problem(422, "expiry_invalid", "expires_at must lie within the next 365 days.")
        token = secrets.token_urlsafe(24)
        credential = Credential(
            credential_id=uuid7(now),
            name=wanted.name,
            max_uses=wanted.max_uses,
            uses=0,
            expires_at=expires,
            revoked_at=None,
            platform=wanted.platform,
            ownership=wanted.ownership,
            serial=wanted.serial.upper() if wanted.serial else None,
            user_name=wanted.user,
            unsigned_allowed=wanted.unsigned_allowed,
            created_by=caller.actor,
            created_at=now,
            serials=wanted.serials,
        )
        target = f"credential:{credential.credential_id}"
        async with transaction(self._pool) as tx:
            await store.add(tx, credential, digest(token))
            after = wanted.model_dump(mode="json") | {"expires_at": expires.isoformat()}
            await auditing.record(tx, caller, WRITE, "credential.create", target, after=after)
        return credential, f"{self._settings.public_url.rstrip('/')}/enroll/apple/{token}"

    async def page(self, after: UUID | None, limit: int) -> Sequence[Credential]:
        """Newest first."""
        async with connected(self._pool) as connection:
            return await store.page(connection, after, limit)

    async def revoke(self, credential_id: UUID, caller: Caller) -> Credential:
        """Nobody enrolls with it any more, nor with a profile that it was already spent on."""
        async with transaction(self._pool) as tx:
            credential = await store.revoke(tx, credential_id, self._clock.now())
            if credential is None:
                raise Problem(404, "credential_unknown", "There is no such credential.")
            before = {"uses": credential.uses, "max_uses": credential.max_uses, "revoked": False}
            target = f"credential:{credential_id}"
            await auditing.record(
                tx,
                caller,
                WRITE,
                "credential.revoke",
                target,
                before=before,
                after={"revoked": True},
            )
        return credential


def digest(secret: str) -> bytes:
    """How tokens and challenges are kept: they are long and random, so a plain hash will do."""
    return hashlib.sha256(secret.encode()).digest()


def shown(credential: Credential) -> dict[str, object]:
    """A credential as the API shows it."""
    values = asdict(credential)
    values["user"] = values.pop("user_name")
    return values
