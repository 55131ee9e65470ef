"""Encrypting anew what lies under older local keys, so that those can be withdrawn.

A table is walked by its blocks, a few at a time: no index is needed, no statement is long, and no
row that somebody else holds is waited for. Services go on meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from shared.db.pool import Connection, Pool, transaction
from shared.sealed import EncryptedColumn, LocalCipher, SealError

# `blob` of every element that a LocalCipher made: version 1, then the key's id.
_ONE: Final = "(SELECT {column} AS blob) AS each"
_EACH: Final = "unnest({column}) AS each (blob)"
_KEY: Final = "substring(blob FROM 2 FOR 12)"
_OURS: Final = r"substring(blob FROM 1 FOR 1) = '\x01'"
PARTS = """
SELECT c.oid::regclass::text AS name,
       pg_relation_size(c.oid) / current_setting('block_size')::bigint AS blocks
FROM pg_class c
WHERE c.relkind = 'r' AND (c.oid = $1::regclass OR c.oid IN (
    SELECT relid FROM pg_partition_tree($1::regclass) WHERE isleaf))
ORDER BY name
"""
COUNT = f"""
SELECT {_KEY} AS key_id, count(*) FROM {{table}}, LATERAL {{blobs}}
WHERE ctid >= $1::tid AND ctid < $2::tid AND {_OURS} GROUP BY 1
"""
# What others hold is passed by and met again: who waits with rows in hand can be waited for.
HOLD = f"""
SELECT ctid, {{row}} AS row, {{column}} AS kept FROM {{table}}
WHERE ctid >= $1::tid AND ctid < $2::tid
  AND EXISTS (SELECT FROM {{blobs}} WHERE {_OURS} AND {_KEY} = ANY($3::bytea[]))
FOR UPDATE SKIP LOCKED
"""
WRITE = "UPDATE {table} SET {column} = $2 WHERE ctid = $1"
_COUNTED: Final = 2_048
_WRITTEN: Final = 16


@dataclass
class Standing:
    """How many secrets of a column lie under which key, by its id."""

    column: EncryptedColumn
    by_key: Counter[str] = field(default_factory=Counter)

    def older_than(self, newest: str) -> int:
        return sum(count for key_id, count in self.by_key.items() if key_id != newest)


@dataclass
class Resealed:
    """What came of one walk; what cannot be opened stays as it is."""

    rows: int = 0
    unopened: int = 0


async def standing(pool: Pool, column: EncryptedColumn) -> Standing:
    """Count a column's secrets by key; asks for no key itself."""
    found = Standing(column)
    async for table, first, last in _windows(pool, column.table, _COUNTED):
        statement = _filled(COUNT, table, column)
        for row in await pool.fetch(statement, first, last):
            found.by_key[row["key_id"].hex()] += row["count"]
    return found


async def reseal(pool: Pool, column: EncryptedColumn, cipher: LocalCipher) -> Resealed:
    """Encrypt with the newest key what lies under any other that `cipher` has."""
    done = Resealed()
    async for table, first, last in _windows(pool, column.table, _WRITTEN):
        async with transaction(pool) as tx:
            await _reseal(tx, table, (first, last), column, cipher, done)
    return done


async def _reseal(
    tx: Connection,
    table: str,
    window: tuple[tuple[int, int], tuple[int, int]],
    column: EncryptedColumn,
    cipher: LocalCipher,
    done: Resealed,
) -> None:
    older = [bytes.fromhex(key_id) for key_id in cipher.older]
    new = []
    for row in await tx.fetch(_filled(HOLD, table, column), *window, older):
        try:
            new.append((row["ctid"], _renewed(row["kept"], row["row"], column, cipher)))
        except SealError:
            done.unopened += 1
    if new:
        await tx.executemany(_filled(WRITE, table, column), new)
        done.rows += len(new)


def _renewed(kept: Any, row: str, column: EncryptedColumn, cipher: LocalCipher) -> Any:
    if not column.many:
        return _anew(kept, row, column, cipher)
    return [blob if blob is None else _anew(blob, row, column, cipher) for blob in kept]


def _anew(blob: bytes, row: str, column: EncryptedColumn, cipher: LocalCipher) -> bytes:
    table = column.place[0] or column.table
    return cipher.reencrypt(blob, table=table, column=column.place[1] or column.column, row=row)


async def _windows(
    pool: Pool, table: str, blocks: int
) -> AsyncIterator[tuple[str, tuple[int, int], tuple[int, int]]]:
    """The parts of a table, and in each from where to where, as it was when we began."""
    for part in await pool.fetch(PARTS, table):
        for first in range(0, part["blocks"], blocks):
            yield part["name"], (first, 0), (first + blocks, 0)


def _filled(statement: str, table: str, column: EncryptedColumn) -> str:
    """Names and expressions are the service's own declaration, never input."""
    blobs = (_EACH if column.many else _ONE).format(column=column.column)
    return statement.format(table=table, column=column.column, row=column.row, blobs=blobs)
