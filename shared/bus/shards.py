"""Which part of the outbox this process sends.

A shard belongs to whoever holds its session advisory lock, so a process that dies gives its shards
free by dying. The connection must be a direct one: a transaction-mode pooler would spread the locks
over sessions.
"""

from __future__ import annotations

import zlib

from shared.bus.outbox import SHARDS
from shared.db.pool import Connection

_PRESENCE = SHARDS  # the lock beside the shards', shared by all relays: counting it counts them

BE_PRESENT = "SELECT pg_advisory_lock_shared($1, $2)"
LOOK_AROUND = """
SELECT count(*) FILTER (WHERE objid::int = $2) AS relays,
       coalesce(array_agg(objid::int) FILTER (WHERE objid::int <> $2), '{}') AS taken
FROM pg_locks
WHERE locktype = 'advisory' AND classid = $1::int::oid AND objsubid = 2 AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
TRY_LOCK = "SELECT pg_try_advisory_lock($1, $2)"
UNLOCK = "SELECT pg_advisory_unlock($1, $2)"


class Shards:
    """The shards that one connection holds, shared fairly with the other relays of a service."""

    def __init__(self, connection: Connection, service: str) -> None:
        self._connection = connection
        self._space = _signed(zlib.crc32(f"muster-outbox:{service}".encode()))
        self.held: list[int] = []

    @property
    def complete(self) -> bool:
        """Whether this relay sends everything itself."""
        return len(self.held) == SHARDS

    async def enter(self) -> None:
        """Let the other relays count this one."""
        await self._connection.execute(BE_PRESENT, self._space, _PRESENCE)

    async def balance(self) -> None:
        """Take free shards up to a fair share, give back what is above it.

        Only between batches: nothing of a shard may be on its way when it is given back.
        """
        row = await self._connection.fetchrow(LOOK_AROUND, self._space, _PRESENCE)
        relays, taken = (row["relays"], set(row["taken"])) if row else (1, set())
        share = -(-SHARDS // max(relays, 1))
        for shard in self.held[share:]:
            await self._connection.execute(UNLOCK, self._space, shard)
        del self.held[share:]
        free = (shard for shard in range(SHARDS) if shard not in taken)
        for shard in free:
            if len(self.held) >= share:
                break
            if await self._connection.fetchval(TRY_LOCK, self._space, shard):
                self.held.append(shard)


def _signed(value: int) -> int:
    return value - 2**32 if value >= 2**31 else value
