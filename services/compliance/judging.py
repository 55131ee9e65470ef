"""Judging devices: load what is known, reach verdicts, store them, tell what changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from services.compliance import metrics
from services.compliance.policies import Definition, Policy, named
from services.compliance.store import devices as device_store
from services.compliance.store import inputs as input_store
from services.compliance.store import policies as policy_store
from services.compliance.store import tallies
from services.compliance.store import verdicts as verdict_store
from services.compliance.store.devices import Moved
from services.compliance.verdicts import Occasion, Verdict, reach
from shared.bus import outbox
from shared.db.pool import Connection
from shared.events.base import Event
from shared.events.compliance import VerdictChanged
from shared.runtime.clock import Clock


class KnownPolicies:
    """The policies in force, parsed once a version."""

    def __init__(self) -> None:
        self._parsed: dict[tuple[UUID, int], Policy] = {}

    async def current(self, tx: Connection) -> dict[UUID, Policy]:
        """Read which versions are in force; only those not met before are fetched and parsed."""
        parsed = dict(self._parsed)
        versions = await policy_store.current(tx)
        missing = [policy_id for policy_id, v in versions.items() if (policy_id, v) not in parsed]
        if missing:
            for policy_id, version, definition in await policy_store.definitions(tx, missing):
                versions[policy_id] = version
                parsed[policy_id, version] = Policy(
                    policy_id=policy_id,
                    version=version,
                    definition=Definition.model_validate(definition),
                )
        self._parsed = {key: parsed[key] for key in versions.items()}
        return {policy_id: parsed[policy_id, version] for policy_id, version in versions.items()}


@dataclass(frozen=True)
class Work:
    """Devices to judge: each with its occasion, by all policies or by those named for it."""

    occasions: Mapping[UUID, Occasion]
    policies: Mapping[UUID, frozenset[UUID]] = field(default_factory=dict)
    causes: Mapping[UUID, Event] = field(default_factory=dict)

    def pairs(self, known: Mapping[UUID, Policy]) -> list[tuple[UUID, Policy]]:
        """(device, policy) pairs that an occasion concerns, by device and policy id."""
        return [
            (device_id, policy)
            for device_id, occasion in sorted(self.occasions.items())
            for policy in known.values()
            if occasion.concerns(policy)
            and (device_id not in self.policies or policy.policy_id in self.policies[device_id])
        ]


class Judge:
    """Reaches verdicts inside the caller's transaction, which holds the devices' locks.

    Policies are read after the locks: a change of policy that comes later judges these devices
    again, and finds what this transaction wrote.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock, self._policies = clock, KnownPolicies()

    async def judge(self, tx: Connection, work: Work, why: str) -> None:
        """Judge, store and emit. `why` is counted."""
        pairs = work.pairs(await self._policies.current(tx))
        last = await self._last(tx, pairs)
        verdicts = await self._reach(tx, pairs, work, last)
        metrics.JUDGED.labels(why).inc(len(verdicts))
        if verdicts:
            await verdict_store.write(tx, verdicts)
        await self._count(tx, work, verdicts, last)
        await outbox.emit(tx, _changes(verdicts, last, work, {p.policy_id: p for _, p in pairs}))

    async def _last(
        self, tx: Connection, pairs: Sequence[tuple[UUID, Policy]]
    ) -> dict[verdict_store.Key, Verdict]:
        if not pairs:
            return {}
        return await verdict_store.read(
            tx, {device_id for device_id, _ in pairs}, {p.policy_id for _, p in pairs}
        )

    async def _reach(
        self,
        tx: Connection,
        pairs: Sequence[tuple[UUID, Policy]],
        work: Work,
        last: Mapping[verdict_store.Key, Verdict],
    ) -> list[Verdict]:
        if not pairs:
            return []
        reads = frozenset[str]().union(*(policy.reads for _, policy in pairs))
        devices = await input_store.load(
            tx, {device_id for device_id, _ in pairs}, named(reads, "fact:"), named(reads, "app:")
        )
        now = self._clock.now()
        reached = (
            reach(
                policy,
                devices[device_id],
                last.get((device_id, policy.policy_id)),
                work.occasions[device_id],
                now,
            )
            for device_id, policy in pairs
            if device_id in devices
        )
        return [verdict for verdict in reached if verdict is not None]

    async def _count(
        self,
        tx: Connection,
        work: Work,
        verdicts: Iterable[Verdict],
        last: Mapping[verdict_store.Key, Verdict],
    ) -> None:
        moved: list[Moved] = []
        # Verdicts that stay as they are leave their device's state alone; its management may not.
        touched = {key for key, occasion in work.occasions.items() if occasion.changed is None}
        for verdict in verdicts:
            before = last.get((verdict.device_id, verdict.policy_id))
            was = before.state if before else None
            if was is not verdict.state:
                moved.append(Moved(verdict.policy_id, was, verdict.state))
                touched.add(verdict.device_id)
        if touched:
            moved += await device_store.roll_up(tx, touched)
        await tallies.add(tx, moved)


def _changes(
    verdicts: Iterable[Verdict],
    last: Mapping[verdict_store.Key, Verdict],
    work: Work,
    policies: Mapping[UUID, Policy],
) -> list[VerdictChanged]:
    told = []
    for verdict in verdicts:
        before = last.get((verdict.device_id, verdict.policy_id))
        if not verdict.differs(before):
            continue
        metrics.CHANGED.labels(verdict.state).inc()
        event = VerdictChanged(
            device_id=verdict.device_id,
            policy_id=verdict.policy_id,
            policy_version=verdict.policy_version,
            policy_name=policies[verdict.policy_id].definition.name,
            state=verdict.state,
            previous=before.state if before else None,
            findings=[finding.told() for finding in verdict.findings],
            evaluated_at=verdict.evaluated_at,
        )
        cause = work.causes.get(verdict.device_id)
        told.append(event.because(cause) if cause else event)
    return told


def observe_delay(events: Iterable[Event], now: datetime) -> None:
    """Measure how long after inventory told of it a change was judged."""
    for event in events:
        metrics.EVENT_TO_VERDICT_SECONDS.observe(max(0, (now - event.meta.time).total_seconds()))
