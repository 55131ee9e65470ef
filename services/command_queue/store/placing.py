"""Plain targets on their way into queues: whole chunks at once, without a look at each of them.

The row of a device says where a command for it goes, and which commands that holds for. Nobody
carries the targets out of the database and back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from services.command_queue.store.targets import NEXT_PLAIN, Asked
from shared.bus import outbox
from shared.db.pool import Connection

NO_TARGETS: Final = '"targets":[]'
"""What a pattern has where its event has targets."""

# One statement and one transaction: the chunks go, their devices are locked in order, those that
# are plain get their row and are told of, and the others come back as chunks that are not plain.
# A row that was waited for is read again after the wait: the fence that came before us has closed
# it. What is not in `device` at all is not plain either.
PLACE: Final = f"""
WITH taken AS MATERIALIZED (
    DELETE FROM target AS t
    USING unnest($1::bigint[], $2::int[]) WITH ORDINALITY AS next (ordinal, chunk, place)
    WHERE t.ordinal = next.ordinal AND t.chunk = next.chunk AND t.plain
    RETURNING t.command_id, t.priority, t.ordinal, t.chunk, t.device_ids, next.place::int
), asked AS MATERIALIZED (
    SELECT taken.command_id, taken.priority, taken.ordinal, taken.place, wanted.device_id
    FROM taken CROSS JOIN LATERAL unnest(taken.device_ids) AS wanted (device_id)
), found AS MATERIALIZED (
    SELECT asked.*, d.channel_id, d.current_enrollment, d.generation, d.outbox_shard AS shard,
           ($3::text[])[asked.place] AS state
    FROM asked JOIN device AS d ON d.device_id = asked.device_id
    WHERE ($3::text[])[asked.place] IN ('active', 'held') AND asked.ordinal > d.plain_after
      AND d.traits = ANY($9)
    ORDER BY d.device_id, asked.ordinal FOR NO KEY UPDATE OF d
), placed AS (
    INSERT INTO pending (channel_id, command_id, device_id, enrollment_id, generation, priority,
                         seq, state, queued_at)
    SELECT channel_id, command_id, device_id, current_enrollment, generation, priority, ordinal,
           CASE state WHEN 'held' THEN 'held' ELSE 'queued' END, $10
    FROM found
), told AS (
    SELECT place, (array_agg(shard ORDER BY device_id))[1] AS shard,
           (array_agg(device_id ORDER BY device_id))[1]::text AS key,
           string_agg(format('{{"device_id":"%s","channel_id":"%s"}}', device_id, channel_id), ','
                      ORDER BY device_id) AS targets
    FROM found WHERE state = 'active' GROUP BY place
), emitted AS (
    INSERT INTO outbox (shard, aggregatetype, aggregateid, type, payload, event_id, occurred_at,
                        correlation_id, causation_id, traceparent)
    SELECT shard, $11, key, $12,
           replace(($4::text[])[place], '{NO_TARGETS}', '"targets":[' || targets || ']'),
           ($5::uuid[])[place], $13, ($6::text[])[place], ($7::text[])[place],
           ($8::text[])[place]
    FROM told ORDER BY place
), counted AS MATERIALIZED (
    SELECT place, count(*) AS placed FROM found GROUP BY place
), rest AS (
    INSERT INTO target (command_id, chunk, ordinal, plain, priority, size, device_ids)
    SELECT taken.command_id, taken.chunk, taken.ordinal, false, taken.priority,
           cardinality(others.device_ids), others.device_ids
    FROM taken LEFT JOIN counted USING (place)
    CROSS JOIN LATERAL (
        SELECT array_agg(device_id ORDER BY device_id) AS device_ids
        FROM unnest(taken.device_ids) AS wanted (device_id)
        WHERE NOT EXISTS (
            SELECT FROM found WHERE found.place = taken.place AND found.device_id = wanted.device_id
        )
    ) AS others
    WHERE coalesce(counted.placed, 0) < cardinality(taken.device_ids)
)
SELECT coalesce(sum(placed), 0)::bigint AS placed,
       (SELECT coalesce(sum(cardinality(device_ids)), 0)::bigint FROM taken) AS taken
FROM counted
"""


@dataclass(frozen=True, slots=True)
class NextChunk:
    """One row of a target list that is next, without its targets."""

    chunk: int
    asked: Asked


async def next_chunks(tx: Connection, limit: int) -> tuple[list[NextChunk], bool]:
    """Return the plain chunks that are next, and whether there may be others.

    Together at most `limit` targets, or one chunk; of small commands four times as many.
    """
    rows = await tx.fetch(NEXT_PLAIN, limit)
    chunks = [NextChunk(row["chunk"], Asked.of(row)) for row in rows]
    return chunks, not rows or rows[0]["others"]


async def place(
    connection: Connection,
    chunks: Sequence[tuple[NextChunk, outbox.Row]],
    traits: Collection[int],
    now: datetime,
) -> tuple[int, bool]:
    """Queue the plain targets of chunks of one request type; how many, and whether others came up.

    `traits` are those that are known to be eligible; a row is the pattern of what the targets of
    its chunk are told of. What is not plain is a chunk that is not plain thereafter. One
    transaction.
    """
    said = [row for _, row in chunks]
    [row] = await connection.fetch(
        PLACE,
        [one.asked.ordinal for one, _ in chunks],
        [one.chunk for one, _ in chunks],
        [one.asked.state for one, _ in chunks],
        [row.payload for row in said],
        [row.event_id for row in said],
        [row.correlation_id for row in said],
        [row.causation_id for row in said],
        [row.traceparent for row in said],
        list(traits),
        now,
        said[0].topic,
        said[0].type,
        datetime.now(UTC),
    )
    return row["placed"], row["placed"] < row["taken"]
