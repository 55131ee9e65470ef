"""What commands have cost so far, over sliding windows, and how large the fleet is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.db.pool import Connection

# Two commands at once must not both fit into the last free place.
TAKE_TURNS = "SELECT fleet FROM installation FOR UPDATE"
FLEET = "SELECT fleet FROM installation"
SUMS = """
SELECT coalesce(spent.targets, 0) AS targets
FROM unnest($2::text[], $3::text[], $4::interval[]) WITH ORDINALITY
     AS asked (actor, command_class, span, place)
CROSS JOIN LATERAL (
    SELECT sum(targets)::bigint AS targets FROM charge
    WHERE (asked.actor IS NULL OR charge.actor = asked.actor)
      AND charge.command_class = asked.command_class
      AND charge.charged_at > $1::timestamptz - asked.span
) AS spent
ORDER BY place
"""
ADD = """
INSERT INTO charge (command_id, charged_at, targets, command_class, actor)
SELECT command_id, $5, targets, command_class, actor
FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[])
  AS told (command_id, targets, command_class, actor)
"""
IS_CHARGED = "SELECT EXISTS (SELECT FROM charge WHERE command_id = $1)"
FORGET = "DELETE FROM charge WHERE charged_at < $1"
COUNT_FLEET = """
UPDATE installation SET fleet = (SELECT count(*) FROM presence WHERE last_seen_at > $1)
"""
KEPT = timedelta(days=40)
"""Longer than any window."""
_SEEN_WITHIN = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Charge:
    command_id: UUID
    targets: int
    command_class: str
    actor: str


@dataclass(frozen=True, slots=True)
class Span:
    """A window of an actor's budget, or of everybody's (None)."""

    actor: str | None
    command_class: str
    length: timedelta


async def take_turns(tx: Connection) -> int:
    """Return the size of the fleet; who else wants to charge waits until this commits."""
    return int(await tx.fetchval(TAKE_TURNS))


async def fleet(tx: Connection) -> int:
    return int(await tx.fetchval(FLEET))


async def sums(tx: Connection, spans: Sequence[Span], now: datetime) -> list[int]:
    """Return the targets that were charged in each window until now."""
    rows = await tx.fetch(
        SUMS,
        now,
        [span.actor for span in spans],
        [span.command_class for span in spans],
        [span.length for span in spans],
    )
    return [row["targets"] for row in rows]


async def add(tx: Connection, charges: Sequence[Charge], now: datetime) -> None:
    await tx.execute(
        ADD,
        [one.command_id for one in charges],
        [one.targets for one in charges],
        [one.command_class for one in charges],
        [one.actor for one in charges],
        now,
    )


async def is_charged(tx: Connection, charge_id: UUID) -> bool:
    return bool(await tx.fetchval(IS_CHARGED, charge_id))


async def forget(tx: Connection, now: datetime) -> None:
    await tx.execute(FORGET, now - KEPT)


async def count_fleet(tx: Connection, now: datetime) -> None:
    await tx.execute(COUNT_FLEET, now - _SEEN_WITHIN)
