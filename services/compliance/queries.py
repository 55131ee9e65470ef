"""What people and programs ask of compliance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from services.compliance.editing import unknown_policy
from services.compliance.explanations import REASONS
from services.compliance.store import devices, policies, rollouts, tallies, verdicts
from services.compliance.store.policies import Stored
from shared.db.pool import Pool, transaction
from shared.events.compliance import VerdictState
from shared.runtime.http import Reach
from shared.runtime.paging import page_of
from shared.runtime.problems import Problem

Row = dict[str, Any]
Rows = tuple[Sequence[Row], str | None]
"""A page and the cursor of the next."""


class Reader:
    """Reads policies, verdicts and counts.

    `reach`: the groups whose devices the caller may see; None: all devices.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def policies(self, after: UUID | None, limit: int) -> Rows:
        """Policies by id, each with its counts."""
        async with transaction(self._pool) as tx:
            found = await policies.page(tx, after, limit + 1)
            shown, following = page_of(found, limit, lambda policy: [str(policy.policy_id)])
            counts = await tallies.read(tx, [policy.policy_id for policy in shown])
        return [_policy(p, counts.get(p.policy_id, {})) for p in shown], following

    async def policy(self, policy_id: UUID) -> Row:
        """One policy with its counts and how far its last change has come."""
        async with transaction(self._pool) as tx:
            found = await policies.one(tx, policy_id)
            if found is None:
                raise unknown_policy()
            counts = await tallies.read(tx, [policy_id])
            rollout = await rollouts.read(tx, policy_id)
        return {**_policy(found, counts.get(policy_id, {})), "rollout": rollout}

    async def versions(self, policy_id: UUID, before: int | None, limit: int) -> Rows:
        """Versions of a policy, newest first, also of a deleted one."""
        async with transaction(self._pool) as tx:
            rows = await policies.versions(tx, policy_id, before, limit + 1)
        if not rows and before is None:
            raise unknown_policy()
        return page_of(rows, limit, lambda row: [row["version"]])

    async def verdicts(
        self,
        policy_id: UUID | None,
        state: VerdictState | None,
        reach: Reach,
        after: tuple[UUID, UUID] | None,
        limit: int,
    ) -> Rows:
        """Verdicts by policy and device."""
        async with transaction(self._pool) as tx:
            rows = await verdicts.page(tx, policy_id, state, reach, after, limit + 1)
        shown, following = page_of(rows, limit, _verdict_key)
        return [explained(row) for row in shown], following

    async def devices(
        self, state: VerdictState | None, reach: Reach, after: UUID | None, limit: int
    ) -> Rows:
        """Managed devices by id with their state over all policies."""
        async with transaction(self._pool) as tx:
            rows = await devices.page(tx, state, reach, after, limit + 1)
        return page_of(rows, limit, lambda row: [str(row["device_id"])])

    async def device(self, device_id: UUID, reach: Reach) -> Row:
        """All verdicts on a device, explained, and how many are in each state."""
        async with transaction(self._pool) as tx:
            row = await devices.one(tx, device_id, reach)
            if row is None:
                raise Problem(404, "device_unknown", "No device has this id.")
            found = await verdicts.of_device(tx, device_id)
        states = [verdict["state"] for verdict in found]
        return {
            **row,
            "state": row["state"] or VerdictState.NOT_APPLICABLE,
            "counts": {state: states.count(state) for state in VerdictState},
            "items": [explained(verdict) for verdict in found],
        }

    async def summary(self) -> Row:
        """Devices by state, over all policies and for each."""
        async with transaction(self._pool) as tx:
            counts = await tallies.read(tx)
            known = await policies.current(tx)
        return {
            "devices": _counts(counts.get(tallies.FLEET, {})),
            "policies": [
                {"policy_id": policy_id, "counts": _counts(counts.get(policy_id, {}))}
                for policy_id in known
            ],
        }


def explained(verdict: Mapping[str, Any]) -> Row:
    """The verdict with a sentence for each finding."""
    return {**verdict, "findings": list(_explained(verdict["findings"]))}


def _explained(findings: Iterable[Mapping[str, Any]]) -> Iterable[Row]:
    for finding in findings:
        yield {**finding, "explanation": REASONS[finding["reason"]]}


def _verdict_key(row: Mapping[str, Any]) -> list[str]:
    return [str(row["policy_id"]), str(row["device_id"])]


def _policy(stored: Stored, counts: Mapping[str, int]) -> Row:
    return {
        "policy_id": stored.policy_id,
        "version": stored.version,
        "created_at": stored.created_at,
        "changed_at": stored.changed_at,
        "changed_by": stored.changed_by,
        "counts": _counts(counts),
        **stored.definition,
    }


def _counts(counts: Mapping[str, int]) -> dict[str, int]:
    """Every state, also those of nobody: passing and failing never pretend to be the estate."""
    return {state: counts.get(state, 0) for state in VerdictState}
