"""Changing policies: each change is a version, an event, an audit record and a rollout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.compliance.policies import Definition
from services.compliance.store import policies, rollouts
from services.compliance.store.policies import Stored
from shared.bus import outbox
from shared.db.pool import Connection, Pool, transaction
from shared.events import uuid7
from shared.events.audit import AuditRecorded
from shared.events.compliance import PolicyChanged
from shared.runtime.clock import Clock
from shared.runtime.jobs import Wake
from shared.runtime.problems import Problem

PERMISSION = "compliance.write"


@dataclass(frozen=True)
class By:
    """Who changes a policy, from where, and why."""

    actor: str
    source: str | None = None
    reason: str | None = None
    via: str | None = None
    """The session or token that acts."""


class Editor:
    """Creates, changes and deletes policies; `changed` wakes the rollout."""

    def __init__(self, pool: Pool, clock: Clock, changed: Wake) -> None:
        self._pool, self._clock, self._changed = pool, clock, changed

    async def create(
        self, definition: Definition, by: By, policy_id: UUID | None = None
    ) -> UUID | None:
        """Store a new policy; None: one with the given id exists, or was deleted."""
        policy_id, now = policy_id or uuid7(), self._clock.now()
        wanted = _json(definition)
        async with transaction(self._pool) as tx:
            await _name_is_free(tx, definition.name, policy_id)
            if not await policies.create(tx, policy_id, wanted, now, by.actor, by.reason):
                return None
            await rollouts.start(tx, policy_id, 1, now)
            await _tell(tx, policy_id, 1, definition.name, "create", by, after=wanted)
        self._changed.set()
        return policy_id

    async def change(
        self, policy_id: UUID, definition: Definition, by: By, expected_version: int | None
    ) -> None:
        """Store the next version; the same definition again changes nothing."""
        wanted, now = _json(definition), self._clock.now()
        async with transaction(self._pool) as tx:
            stored = await _locked(tx, policy_id)
            _expect(stored, expected_version)
            if stored.definition == wanted:
                return
            await _name_is_free(tx, definition.name, policy_id)
            await policies.change(tx, policy_id, wanted, now, by.actor, by.reason)
            version = stored.version + 1
            await rollouts.start(tx, policy_id, version, now)
            await _tell(
                tx,
                policy_id,
                version,
                definition.name,
                "change",
                by,
                before=stored.definition,
                after=wanted,
            )
        self._changed.set()

    async def delete(self, policy_id: UUID, by: By) -> None:
        """Take a policy out of force; its versions can still be read."""
        now = self._clock.now()
        async with transaction(self._pool) as tx:
            stored = await _locked(tx, policy_id)
            await policies.delete(tx, policy_id, now, by.actor)
            await rollouts.start(tx, policy_id, stored.version, now, deleting=True)
            name = stored.definition["name"]
            await _tell(tx, policy_id, stored.version, name, "delete", by, before=stored.definition)
        self._changed.set()


def _json(definition: Definition) -> dict[str, Any]:
    return definition.model_dump(mode="json")


async def _locked(tx: Connection, policy_id: UUID) -> Stored:
    stored = await policies.lock(tx, policy_id)
    if stored is None:
        raise unknown_policy()
    return stored


def unknown_policy() -> Problem:
    return Problem(404, "policy_unknown", "No policy has this id.")


def _expect(stored: Stored, version: int | None) -> None:
    if version is not None and version != stored.version:
        raise Problem(
            409,
            "policy_changed",
            f"Somebody changed the policy: read version {stored.version} and try again.",
            version=stored.version,
        )


async def _name_is_free(tx: Connection, name: str, policy_id: UUID) -> None:
    if await policies.name_taken(tx, name, policy_id):
        raise Problem(409, "name_taken", "Another policy has this name: choose a different one.")


async def _tell(
    tx: Connection,
    policy_id: UUID,
    version: int,
    name: str,
    what: str,
    by: By,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    await outbox.emit(
        tx,
        [
            PolicyChanged(
                policy_id=policy_id,
                version=version,
                name=name,
                actor=by.actor,
                deleted=what == "delete",
            ),
            AuditRecorded(
                audit_id=uuid7(),
                actor=by.actor,
                permission=PERMISSION,
                action=f"compliance.policy.{what}",
                target=str(policy_id),
                before=dict(before) if before else None,
                after=dict(after) if after else None,
                reason=by.reason,
                source=by.source,
                via=by.via,
            ),
        ],
    )
