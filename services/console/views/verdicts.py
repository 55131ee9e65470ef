"""Verdicts, and the state of a device over all of them, as compliance tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from services.console.store import view_tallies as tallies
from services.console.store import view_verdicts as store
from services.console.views import activity, live
from services.console.views.counting import counted
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, transaction
from shared.events.compliance import PolicyChanged, VerdictChanged

_CHUNK = 500


async def judge(tx: Connection, events: Sequence[VerdictChanged]) -> None:
    """Take over verdicts; a device takes the worst of its own."""
    await store.learn_policies(tx, _policies(events))
    before = await store.read(tx, [(event.device_id, event.policy_id) for event in events])
    written = await store.write(tx, [_news(event) for event in events])
    moved: Counter[tuple[str, str]] = Counter()
    for key, state in written.items():
        moved["policy", f"{key[1]} {state}"] += 1
        if key in before:
            moved["policy", f"{key[1]} {before[key]}"] -= 1
    await tallies.add(tx, moved)
    ids = [event.device_id for event in events]
    async with counted(tx, ids):
        await store.roll_up(tx, ids)
    await activity.verdicts(tx, events)
    live.changed(tx, ids)


def _policies(events: Sequence[VerdictChanged]) -> list[store.PolicyNews]:
    """The newest version of each: a statement may meet a row only once."""
    newest = {e.policy_id: e for e in sorted(events, key=lambda one: one.policy_version)}
    return [store.PolicyNews(e.policy_id, e.policy_version, e.policy_name) for e in newest.values()]


def _news(event: VerdictChanged) -> store.VerdictNews:
    return store.VerdictNews(
        device_id=event.device_id,
        policy_id=event.policy_id,
        sequence=event.meta.sequence,
        policy_version=event.policy_version,
        state=event.state,
        findings=[found.model_dump(mode="json", exclude_none=True) for found in event.findings],
        evaluated_at=event.evaluated_at,
    )


async def learn(tx: Connection, events: Sequence[PolicyChanged]) -> None:
    """Remember policies by name; the verdicts of a deleted one go by and by."""
    await store.learn_policies(
        tx, [store.PolicyNews(e.policy_id, e.version, e.name, e.deleted) for e in events]
    )


class Clearing:
    """Drops the verdicts of deleted policies, in chunks that can be broken off anywhere.

    It looks again for ever: a verdict may come in just behind the event that ends its policy.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def run(self) -> bool:
        """Work on one chunk; True: more waits."""
        async with transaction(self._pool) as tx:
            policy_id = await store.deleted_with_verdicts(tx)
            if policy_id is None:
                return False
            chunk = await store.devices_of(tx, policy_id, _CHUNK)
            await lock_devices(tx, chunk)
            async with counted(tx, chunk):
                await store.drop(tx, policy_id, chunk)
                await store.roll_up(tx, chunk)
            await tallies.drop_policy(tx, policy_id)
            live.changed(tx, chunk)
        return True
