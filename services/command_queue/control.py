"""Taking back and stopping: cancels and freezes act at once, whatever is in progress.

Each takes the claims' lock exclusively, writes its row and answers. A claim that began before has
committed by then; one that begins later reads the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.command_queue import metrics
from services.command_queue.errors import NotFound
from services.command_queue.store import commands, freezes, pending
from shared.bus import outbox
from shared.db.pool import Pool, Record, transaction
from shared.events import uuid7
from shared.events.audit import AuditRecorded
from shared.events.commands import CommandCancelled, CommandClass, GuardAlarmed
from shared.runtime.clock import Clock
from shared.runtime.http import Reach


@dataclass(frozen=True, slots=True)
class By:
    """Who changes something, by which permission, and why; for the audit."""

    actor: str
    permission: str
    reason: str | None
    source: str | None = None
    via: str | None = None
    """The session or token that acts."""


class Control:
    """What stops commands."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def cancel(self, command_id: UUID, reach: Reach, by: By) -> bool:
        """Take a command back; False when it had ended before. Raises NotFound, also for one that
        was asked for beyond these groups.

        Queued, deferred and held targets become `cancelled`, those that are out
        `cancel_requested`: the sweeper writes that down, but from now on none is handed out.
        """
        async with transaction(self._pool) as tx:
            await pending.stop_claims(tx)
            found = await commands.get(tx, command_id, reach)
            if found is None:
                raise NotFound("command")
            now = self._clock.now()
            if not await commands.cancel(tx, command_id, now, by.actor, by.reason):
                return False
            await outbox.emit(
                tx,
                [
                    CommandCancelled(command_id=command_id, actor=by.actor, reason=by.reason),
                    audited(
                        by,
                        "command.cancel",
                        str(command_id),
                        before={"state": found["state"]},
                        after={"state": "cancelled"},
                    ),
                ],
            )
        return True

    async def freeze(
        self, command_class: CommandClass | None, before: datetime | None, by: By
    ) -> dict[str, Any]:
        """Hand out no command of a class (None: any) asked for before an instant (None: ever)."""
        now = self._clock.now()
        freeze_id = uuid7(now)
        async with transaction(self._pool) as tx:
            await pending.stop_claims(tx)
            await freezes.add(tx, freeze_id, command_class, before, by.actor, by.reason or "", now)
            after = {"command_class": command_class, "before": before and before.isoformat()}
            alarm = GuardAlarmed(
                alarm_id=freeze_id,
                kind="frozen",
                actor=by.actor,
                reason=by.reason or "",
                command_class=command_class,
            )
            await outbox.emit(tx, [audited(by, "guard.freeze", str(freeze_id), after=after), alarm])
        metrics.FROZEN.labels("begun").inc()
        return {
            "freeze_id": freeze_id,
            "command_class": command_class,
            "before": before,
            "actor": by.actor,
            "reason": by.reason or "",
            "created_at": now,
        }

    async def cancel_all(self, command_class: CommandClass | None, by: By) -> UUID:
        """Cancel all that was asked for before now: none of it is handed out from now on, and the
        sweeper writes it down.
        """
        now = self._clock.now()
        id_ = uuid7(now)
        async with transaction(self._pool) as tx:
            await pending.stop_claims(tx)
            reason = by.reason or "all cancelled"
            await freezes.add(tx, id_, command_class, now, by.actor, reason, now, cancels=True)
            alarm = GuardAlarmed(
                alarm_id=id_,
                kind="cancelled",
                actor=by.actor,
                reason=reason,
                command_class=command_class,
            )
            after = {"command_class": command_class, "before": now.isoformat()}
            await outbox.emit(tx, [audited(by, "command.cancel_all", str(id_), after=after), alarm])
        return id_

    async def standing(self) -> Sequence[Record]:
        """Return the freezes in force."""
        async with transaction(self._pool) as tx:
            return await freezes.standing(tx)


def audited(
    by: By,
    action: str,
    target: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> AuditRecorded:
    return AuditRecorded(
        audit_id=uuid7(),
        actor=by.actor,
        permission=by.permission,
        action=action,
        target=target,
        before=None if before is None else dict(before),
        after=None if after is None else dict(after),
        reason=by.reason,
        source=by.source,
        via=by.via,
    )
