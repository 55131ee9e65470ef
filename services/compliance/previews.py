"""What a policy would say of the fleet, before anybody saves it.

How many devices it is for is counted; how they would stand is judged on so many of them at most,
the same ones each time, so that two drafts can be compared. Nothing is written.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from services.compliance.explanations import REASONS
from services.compliance.policies import Definition, Policy
from services.compliance.store import devices, inputs, verdicts
from services.compliance.verdicts import LADDER, Occasion, Verdict, reach
from shared.db.pool import READING, Pool, transaction
from shared.events.base import uuid7
from shared.events.compliance import VerdictState
from shared.runtime.clock import Clock

LOOKED_AT: Final = 1_000
SHOWN: Final = 20
_AT_ONCE: Final = 25
"""Devices judged before others get their turn."""


@dataclass(frozen=True)
class Preview:
    """`applies_to`: managed devices that it is for. The rest is of `judged` of them.

    `worse`: those that would stand lower than under the version in force; without one, those that
    would fail. `failing`: the first of these, each with why.
    """

    applies_to: int
    judged: int
    counts: Mapping[VerdictState, int]
    worse: int
    better: int
    failing: Sequence[Mapping[str, Any]]


class Previews:
    """Judges drafts."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock
        self._turn = asyncio.Lock()

    async def of(self, definition: Definition, policy_id: UUID | None) -> Preview:
        """`policy_id`: the policy whose next version this would be.

        One at a time in a process: a hundred rules on a thousand devices take a while, and what is
        asked at once must not add up to the whole service.
        """
        async with self._turn:
            return await self._of(definition, policy_id)

    async def _of(self, definition: Definition, policy_id: UUID | None) -> Preview:
        # A version that never was: no finding of the one in force is kept, each rule is judged.
        draft = Policy(policy_id=policy_id or uuid7(), version=0, definition=definition)
        where = definition.applicability
        async with transaction(self._pool, READING) as tx:
            total = await devices.count_for(tx, where.platforms, where.ownership, where.tags)
            rows = await devices.some_for(
                tx, where.platforms, where.ownership, where.tags, LOOKED_AT
            )
            about = {row["device_id"]: row for row in rows}
            facts, applications = draft.inputs
            known = await inputs.load(tx, about, facts, applications)
            before = await verdicts.read(tx, about, [draft.policy_id]) if policy_id else {}
        now = self._clock.now()
        would: list[Verdict] = []
        for number, device in enumerate(known.values()):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            verdict = reach(draft, device, None, Occasion(), now)
            if verdict is not None:
                would.append(verdict)
        moved = [_steps(before.get((v.device_id, v.policy_id)), v) for v in would]
        worse = [v for v, steps in zip(would, moved, strict=True) if steps < 0]
        counts = Counter(verdict.state for verdict in would)
        return Preview(
            applies_to=total,
            judged=len(would),
            counts={state: counts[state] for state in VerdictState},
            worse=len(worse),
            better=sum(steps > 0 for steps in moved),
            failing=[_shown(about[v.device_id], v) for v in worse[:SHOWN]],
        )


def _steps(before: Verdict | None, after: Verdict) -> int:
    """How far a device would climb the ladder; below 0: it would fall.

    Whoever was not judged before falls by failing, and does not climb.
    """
    if before is None or before.state not in LADDER:
        return -1 if after.state is VerdictState.NONCOMPLIANT else 0
    if after.state not in LADDER:
        return 0
    return LADDER.index(after.state) - LADDER.index(before.state)


def _shown(row: Mapping[str, Any], verdict: Verdict) -> dict[str, Any]:
    worst = [f for f in verdict.findings if f.state is verdict.state]
    return {**row, "state": verdict.state, "why": [REASONS[f.reason] for f in worst][:3]}
