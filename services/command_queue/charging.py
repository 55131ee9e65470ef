"""Charging what harms and is no command: the same budgets, asked by the service that would do it.

There is nothing to hold: what goes over a budget is refused, and is an alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from services.command_queue import budgets, protection
from services.command_queue.budgets import Weight
from services.command_queue.settings import CommandQueueSettings
from services.command_queue.store import charges
from shared.bus import outbox
from shared.db.pool import Pool, transaction
from shared.events import uuid7
from shared.events.commands import CommandClass, GuardAlarmed
from shared.runtime.clock import Clock


class Charging:
    def __init__(self, pool: Pool, clock: Clock, settings: CommandQueueSettings) -> None:
        self._pool, self._clock, self._settings = pool, clock, settings

    async def charge(
        self,
        charge_id: UUID,
        what: str,
        actor: str,
        command_class: CommandClass,
        device_ids: Sequence[UUID],
    ) -> str | None:
        """Charge an act on these devices; why it must not be done, or None.

        The same id again is the same act: charged once.
        """
        now = self._clock.now()
        weight = Weight(charge_id, command_class, max(1, len(device_ids)), actor)
        async with transaction(self._pool) as tx:
            await charges.take_turns(tx)
            if await charges.is_charged(tx, charge_id):
                return None
            if command_class is CommandClass.DESTRUCTIVE:
                count = await protection.count(tx, device_ids, now)
                weight = replace(weight, protected=count)
            holds = await budgets.judge(tx, [weight], self._settings, now)
            if (hold := holds.get(charge_id)) is None:
                await budgets.charge(tx, [weight], now)
                return None
            alarm = GuardAlarmed(
                alarm_id=uuid7(),
                kind="refused",
                actor=actor,
                reason=f"{what}: {hold.reason}",
                command_class=command_class,
                target_count=weight.targets,
                about=device_ids[0] if len(device_ids) == 1 else None,
            )
            await outbox.emit(tx, [alarm])
            return hold.reason
