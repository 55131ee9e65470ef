"""Who a certificate speaks for, and whether work waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.command_queue.store.pending import SERVABLE
from shared.db.pool import Connection

# One read for a whole batch of polls; nothing is written or locked. OFFSET 0 keeps the planner from
# another order: it would scan tables that are empty while it plans, and large ones thereafter.
FIND = f"""
SELECT asked.place, e.device_id, e.enrollment_id, e.state, e.udid,
       h.channel_id, h.open,
       EXISTS (
           SELECT FROM pending AS p CROSS JOIN LATERAL (
               SELECT * FROM command WHERE command.command_id = p.command_id OFFSET 0
           ) AS c
           WHERE p.device_id = e.device_id AND p.channel_id = h.channel_id
             AND p.state IN ('queued', 'sent', 'deferred')
             AND {SERVABLE}
       ) AS work
FROM unnest($1::bytea[]) WITH ORDINALITY AS asked (sha256, place)
CROSS JOIN LATERAL (
    SELECT enrollment_id FROM pin WHERE pin.sha256 = asked.sha256 OFFSET 0
) AS pinned
CROSS JOIN LATERAL (
    SELECT * FROM enrollment WHERE enrollment.enrollment_id = pinned.enrollment_id OFFSET 0
) AS e
LEFT JOIN LATERAL (
    SELECT channel_id, open FROM channel
    WHERE channel.enrollment_id = e.enrollment_id AND channel.kind = 'device' OFFSET 0
) AS h ON true
"""

FIND_USER = """
SELECT channel_id, open FROM channel
WHERE enrollment_id = $1 AND kind = 'user' AND user_key = $2
"""

UDID_IS_KNOWN = "SELECT EXISTS (SELECT FROM enrollment WHERE udid = $1)"

AUTHORITIES = "SELECT certificates FROM authority ORDER BY authority"


@dataclass(frozen=True, slots=True)
class Speaker:
    """An enrollment whose certificate was shown; the channel is its device channel.

    `work` tells whether something could have been handed out on that channel at the time of asking.
    """

    device_id: UUID
    enrollment_id: UUID
    state: str
    udid: str | None
    channel_id: UUID | None
    open: bool
    work: bool


async def find(
    tx: Connection, fingerprints: Sequence[bytes], now: datetime
) -> list[Speaker | None]:
    """Return the speaker of each certificate, in order; None where nobody is pinned to it."""
    found: list[Speaker | None] = [None] * len(fingerprints)
    # SERVABLE numbers the instant as $2.
    for row in await tx.fetch(FIND, fingerprints, now):
        found[row["place"] - 1] = Speaker(
            row["device_id"],
            row["enrollment_id"],
            row["state"],
            row["udid"],
            row["channel_id"],
            bool(row["open"]),
            row["work"],
        )
    return found


async def user_channel(
    tx: Connection, enrollment_id: UUID, user_key: str
) -> tuple[UUID, bool] | None:
    """Return id and openness of a user's channel in this enrollment."""
    row = await tx.fetchrow(FIND_USER, enrollment_id, user_key)
    return None if row is None else (row["channel_id"], row["open"])


async def udid_is_known(tx: Connection, udid: str) -> bool:
    return bool(await tx.fetchval(UDID_IS_KNOWN, udid))


async def authorities(tx: Connection) -> list[str]:
    """Return the PEM certificates that device identities are issued under."""
    return [row["certificates"] for row in await tx.fetch(AUTHORITIES)]
