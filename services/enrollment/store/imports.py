"""What an import needs beside the tables' own statements."""

from __future__ import annotations

from shared.db.pool import Connection

# One at a time: a chunk holds two names a row, and PostgreSQL's table of locks is of one size.
TAKE_TURNS = "SELECT pg_advisory_xact_lock(hashtext('muster_enrollment'), hashtext('import'))"


async def take_turns(tx: Connection) -> None:
    """Wait until no other process imports; before any other lock."""
    await tx.execute(TAKE_TURNS)
