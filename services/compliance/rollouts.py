"""Taking a changed policy through the fleet, in chunks that can be broken off anywhere."""

from __future__ import annotations

from services.compliance import metrics
from services.compliance.judging import Judge, Work
from services.compliance.settings import ComplianceSettings
from services.compliance.store import devices, rollouts, tallies, verdicts
from services.compliance.store.devices import Moved
from services.compliance.store.rollouts import Rollout
from services.compliance.verdicts import Occasion
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, transaction
from shared.runtime.clock import Clock


class Rollouts:
    """Judges every managed device anew after a change; drops the verdicts of a deleted policy.

    Where it stands is written with each chunk. Devices that appear behind it were judged by the
    version in force when they appeared.
    """

    def __init__(
        self, pool: Pool, settings: ComplianceSettings, clock: Clock, judge: Judge
    ) -> None:
        self._pool, self._settings, self._clock, self._judge = pool, settings, clock, judge

    async def run(self) -> bool:
        """Work on one chunk; True: more waits."""
        async with transaction(self._pool) as tx:
            rollout = await rollouts.following(tx)
            if rollout is None:
                return False
            await (self._drop(tx, rollout) if rollout.deleting else self._judge_next(tx, rollout))
        return True

    async def _judge_next(self, tx: Connection, rollout: Rollout) -> None:
        chunk = await devices.managed_after(tx, rollout.after, self._settings.rollout_batch)
        if not chunk:
            await rollouts.finish(tx, rollout, self._clock.now())
            return
        await lock_devices(tx, chunk)
        only = dict.fromkeys(chunk, frozenset({rollout.policy_id}))
        await self._judge.judge(tx, Work(dict.fromkeys(chunk, Occasion()), policies=only), "policy")
        await rollouts.advance(tx, rollout, chunk[-1], len(chunk))
        metrics.ROLLED_OUT.inc(len(chunk))

    async def _drop(self, tx: Connection, rollout: Rollout) -> None:
        chunk = await verdicts.devices_of(tx, rollout.policy_id, self._settings.rollout_batch)
        if not chunk:
            await tallies.drop(tx, rollout.policy_id)
            await rollouts.finish(tx, rollout, self._clock.now())
            return
        await lock_devices(tx, chunk)
        states = await verdicts.drop(tx, rollout.policy_id, chunk)
        moved = [Moved(rollout.policy_id, state, None) for state in states]
        await tallies.add(tx, moved + await devices.roll_up(tx, chunk))
