"""A fleet for the console's read model: its handlers get events as other services send them.

The same seed makes the same fleet: names, systems, verdicts, groups and what happened in a month.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from shared.bus import Handlers, apply
from shared.bus.testing import travelled
from shared.db.pool import Pool
from shared.events import Event, uuid7
from shared.events.commands import CommandFinished, DeviceSeen, TargetState
from shared.events.compliance import Finding, VerdictChanged, VerdictState
from shared.events.device_state import DeviceState, EnrollmentState
from shared.events.devices import CertificateIssued, DeviceEnrolled, Ownership, Platform
from shared.events.groups import DeviceGroups, GroupState
from shared.events.inventory import FactChange, FactsChanged

BATCH: Final = 256
GROUPS: Final = 40
SMALL_GROUP: Final = 0
"""The first group has one device in a hundred, the others overlap at random."""
POLICIES: Final = ("Baseline", "Encryption", "Applications")
_MODELS: Final = {
    Platform.IOS: [("iPhone", "iPhone17,1"), ("iPhone", "iPhone16,1"), ("iPhone", "iPhone14,5")],
    Platform.IPADOS: [("iPad", "iPad14,3"), ("iPad", "iPad13,18")],
    Platform.MACOS: [("MacBook Pro", "Mac15,6"), ("MacBook Air", "Mac14,2")],
}
_SYSTEMS: Final = {
    Platform.IOS: ["18.1", "18.0.1", "17.7.1", "17.6.1", "16.7.10"],
    Platform.IPADOS: ["18.1", "18.0.1", "17.7.1", "16.7.10"],
    Platform.MACOS: ["15.1", "15.0.1", "14.7.1", "13.7.1"],
}
_COMMON: Final = (60, 20, 12, 5, 3)
_FIRST: Final = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Margaret", "Ken", "Radia")
_LAST: Final = (
    "Lovelace",
    "Hopper",
    "Turing",
    "Dijkstra",
    "Liskov",
    "Knuth",
    "Hamilton",
    "Perlman",
)
_SITES: Final = ("Berlin", "Lyon", "Oslo", "Porto", "Turin", "Zürich")
_ALPHABET: Final = "CDFGHJKLMNPQRTVWXY0123456789"
_VERDICTS: Final = {
    VerdictState.COMPLIANT: 80,
    VerdictState.NONCOMPLIANT: 9,
    VerdictState.STALE: 5,
    VerdictState.NOT_EVALUATED: 4,
    VerdictState.ERROR: 2,
}


class Fleet:
    """Devices and what is told of them; `ids` and `groups` are known before it is loaded."""

    def __init__(self, devices: int, seed: int = 1) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._now = datetime.now(UTC)
        self.ids = [uuid7() for _ in range(devices)]
        self.groups = [uuid7() for _ in range(GROUPS)]
        self.policies = [uuid7() for _ in POLICIES]
        self.members: dict[UUID, list[UUID]] = {}
        """Device → its groups, once it is loaded."""

    async def load(self, pool: Pool, handlers: Handlers) -> int:
        """Let the handlers have all events, in batches as from Kafka; returns how many."""
        count = 0
        for batch, service in self._batches():
            await apply(pool, "console", handlers, travelled(*batch, service=service))
            count += len(batch)
        return count

    def _batches(self) -> Iterator[tuple[Sequence[Event], str]]:
        yield (
            [GroupState(group_id=g, name=f"Group {n}") for n, g in enumerate(self.groups)],
            ("inventory"),
        )
        for begin in range(0, len(self.ids), BATCH):
            ids = self.ids[begin : begin + BATCH]
            states = [self._state(device_id) for device_id in ids]
            yield states, "enrollment"
            yield [self._enrolled(state) for state in states], "enrollment"
            yield [self._certified(device_id) for device_id in ids], "enrollment"
            yield [self._facts(state) for state in states], "inventory"
            yield [self._member(device_id) for device_id in ids], "inventory"
            for place in range(len(POLICIES)):
                yield [self._judged(device_id, place) for device_id in ids], "compliance"
            yield self._seen(ids), "command_queue"
            yield [self._finished(device_id) for device_id in ids], "command_queue"

    def _pick(self, weights: dict[VerdictState, int]) -> VerdictState:
        return self._chance.choices(list(weights), list(weights.values()))[0]

    def _state(self, device_id: UUID) -> DeviceState:
        chance = self._chance
        platform = chance.choices(list(_MODELS), (60, 15, 25))[0]
        model, product = chance.choice(_MODELS[platform])
        systems = _SYSTEMS[platform]
        first, last = chance.choice(_FIRST), chance.choice(_LAST)
        enrolled_at = self._now - timedelta(minutes=chance.randrange(400 * 1440))
        enrollment = EnrollmentState(
            enrollment_id=uuid7(),
            generation=1,
            state=chance.choices(("enrolled", "ended", "pending", "quarantined"), (93, 5, 1, 1))[0],
            supervised=chance.random() < 0.7,  # noqa: PLR2004 - a share
            udid=f"0000{chance.randrange(16**4):04X}-{chance.randrange(16**16):016X}",
            pins=[],
            channels=[],
            authenticated_at=enrolled_at,
            enrolled_at=enrolled_at,
        )
        return DeviceState(
            device_id=device_id,
            platform=platform,
            ownership=chance.choices(
                (Ownership.CORPORATE, Ownership.PERSONAL, Ownership.UNKNOWN), (80, 15, 5)
            )[0],
            name=f"{first} {last}'s {model} {chance.randrange(10**4):04}",
            serial="".join(chance.choices(_ALPHABET, k=10)),
            model=model,
            product=product,
            os_version=chance.choices(systems, _COMMON[: len(systems)])[0],
            user=f"{first}.{last}{chance.randrange(200)}@example.com".lower(),
            tags=chance.sample(_SITES, k=chance.randrange(3)),
            enrollments=[enrollment],
            current_enrollment=enrollment.enrollment_id,
        )

    def _enrolled(self, state: DeviceState) -> DeviceEnrolled:
        return DeviceEnrolled(
            device_id=state.device_id,
            enrollment_id=state.enrollments[0].enrollment_id,
            generation=1,
            channel_id=uuid7(),
            platform=state.platform,
            ownership=state.ownership,
            enrolled_at=self._now,
        )

    def _certified(self, device_id: UUID) -> CertificateIssued:
        until = self._now + timedelta(minutes=self._chance.randrange(365 * 1440))
        return CertificateIssued(
            device_id=device_id, sha256=device_id.hex, serial_number="1", not_after=until
        )

    def _facts(self, state: DeviceState) -> FactsChanged:
        changes = [
            FactChange(name="os.version", value=state.os_version),
            FactChange(name="device.model_name", value=state.model),
        ]
        return FactsChanged(device_id=state.device_id, observed_at=self._now, changes=changes)

    def _member(self, device_id: UUID) -> DeviceGroups:
        groups = self._chance.sample(self.groups[1:], k=self._chance.randrange(4))
        if self._chance.randrange(100) == 0:
            groups.append(self.groups[SMALL_GROUP])
        self.members[device_id] = groups
        return DeviceGroups(device_id=device_id, groups=groups)

    def _judged(self, device_id: UUID, place: int) -> VerdictChanged:
        state = self._pick(_VERDICTS)
        return VerdictChanged(
            device_id=device_id,
            policy_id=self.policies[place],
            policy_version=1,
            policy_name=POLICIES[place],
            state=state,
            findings=[
                Finding(rule=f"rule-{n}", state=state, reason="met", expected=True, observed=True)
                for n in range(4)
            ],
            evaluated_at=self._now,
        )

    def _seen(self, ids: Sequence[UUID]) -> list[DeviceSeen]:
        """One in fifty was never seen; most were today."""
        return [
            DeviceSeen(
                device_id=one,
                seen_at=self._now - timedelta(hours=self._chance.expovariate(1 / 60)),
            )
            for one in ids
            if self._chance.randrange(50)
        ]

    def _finished(self, device_id: UUID) -> CommandFinished:
        states = (TargetState.ACKNOWLEDGED, TargetState.FAILED)
        return CommandFinished(
            device_id=device_id,
            command_id=uuid7(),
            kind="configuration.install",
            state=self._chance.choices(states, (97, 3))[0],
            actor="service:configuration",
            queued_at=self._now,
            finished_at=self._now,
        )
