"""`muster keys` finds all that services encrypt for themselves, and writes all of it anew."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from shared.db.pool import Pool, open_pool
from shared.events.registry import SERVICES
from shared.runtime.resealing import reseal, standing
from shared.sealed import EncryptedColumn, LocalCipher
from tests.attacks import test_kinds_of_secrets as kinds
from tests.renewed import dsn_of
from tools.cli import services
from tools.embedded.testing import MakeDatabase

OLD, NEW, LOST = "0" * 24, "1" * 24, "2" * 24
KEYS = {OLD: b"o" * 32, NEW: b"n" * 32}
COLUMNS = """
SELECT c.relname || '.' || a.attname AS name
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
  AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
  AND a.atttypid IN ('bytea'::regtype, 'bytea[]'::regtype)
"""
# Events as they came, whose secrets are sealed to the service; and digests of documents.
OTHERS = {"dead_letter.record_key", "dead_letter.record_value", "holding.bodies"}
# A row needs no more than what its secret is bound to.
UNBOUND = """
SELECT format('ALTER TABLE %s DROP CONSTRAINT IF EXISTS %I CASCADE', conrelid::regclass, conname)
FROM pg_constraint
WHERE connamespace = current_schema()::regnamespace AND contype IN ('c', 'f', 'p', 'u')
  AND conparentid = 0 AND coninhcount = 0
"""
NULLABLE = """
SELECT format('ALTER TABLE %s ALTER %I DROP NOT NULL', attrelid::regclass, attname)
FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
  AND NOT c.relispartition AND attnotnull AND attnum > 0 AND attidentity = ''
"""
TYPES = """
SELECT attname, format_type(atttypid, NULL) AS kind FROM pg_attribute
WHERE attrelid = $1::regclass AND attname = ANY($2::text[])
"""


@pytest.fixture(params=SERVICES)
async def kept(
    request: pytest.FixtureRequest, make_database: MakeDatabase
) -> AsyncIterator[tuple[str, Pool]]:
    pool = await open_pool(await make_database(request.param), name="test")
    yield request.param, pool
    await pool.close()


async def test_every_column_of_bytes_is_declared_or_known_to_be_clear(
    kept: tuple[str, Pool],
) -> None:
    name, pool = kept
    declared = {column.name for column in services.load(name).encrypted}
    found = {row["name"] for row in await pool.fetch(COLUMNS)}
    known = {kind: _of(name, kinds.COLUMNS[kind]) for kind in kinds.COLUMNS}
    assert declared <= found
    assert found & known["sealed"] <= declared
    assert found - declared <= known["hashed"] | known["public"] | OTHERS


def _of(service: str, names: Iterable[str]) -> set[str]:
    """`table.column` of those that are this service's."""
    return {name.partition(".")[2] for name in names if name.startswith(f"{service}.")}


async def test_each_is_written_anew_in_its_place(kept: tuple[str, Pool]) -> None:
    name, pool = kept
    for statement in (UNBOUND, NULLABLE):
        for row in await pool.fetch(statement):
            await pool.execute(row[0])
    old, both, new = LocalCipher({OLD: KEYS[OLD]}), LocalCipher(KEYS), LocalCipher({NEW: KEYS[NEW]})
    for column in services.load(name).encrypted:
        await _row(pool, column, old)
        await _row(pool, column, LocalCipher({LOST: b"l" * 32}))
        await _row(pool, column, None)
        walked = await reseal(pool, column, both)
        assert (walked.rows, walked.unopened) == (1, 0), column.name
        by_key = (await standing(pool, column)).by_key
        each = 2 if column.many else 1
        assert by_key == {NEW: each, LOST: each}, column.name
        opened = 0
        for row in await pool.fetch(
            f"SELECT {column.row} AS row, {column.column} AS kept FROM {column.table}"
        ):
            for blob in row["kept"] if column.many else [row["kept"]]:
                if blob and blob[1:13].hex() == NEW:
                    assert new.decrypt(blob, **_place(column, row["row"])) == b"secret"
                    opened += 1
        assert opened == each


async def test_what_does_not_open_stays_and_is_counted(make_database: MakeDatabase) -> None:
    """Damaged, or copied from another row: nothing is lost, and nobody is told that all is well."""
    pool = await open_pool(await make_database("command_queue"), name="test")
    [column] = [one for one in services.load("command_queue").encrypted if one.table == "escrow"]
    old = LocalCipher({OLD: KEYS[OLD]})
    of_another = old.encrypt(b"pin", table="escrow", column="sealed", row=str(uuid4()))
    await pool.execute(
        "INSERT INTO escrow VALUES ($1, $1, $1, 'lock_pin', $2, 'x', now())", uuid4(), of_another
    )
    walked = await reseal(pool, column, LocalCipher(KEYS))
    assert (walked.rows, walked.unopened) == (0, 1)
    assert await pool.fetchval("SELECT sealed FROM escrow") == of_another
    assert (await standing(pool, column)).older_than(NEW) == 1
    await pool.close()


async def test_a_row_that_somebody_holds_is_left_for_the_next_round(
    make_database: MakeDatabase,
) -> None:
    """Who waits with rows in hand could be waited for by the road."""
    pool = await open_pool(await make_database("push_notifier"), name="test")
    [column] = [one for one in services.load("push_notifier").encrypted if "req" in one.table]
    old, row = LocalCipher({OLD: KEYS[OLD]}), uuid4()
    key = old.encrypt(b"key", table="certificate_request", column="key", row=str(row))
    await pool.execute(
        "INSERT INTO certificate_request VALUES ($1, 'csr', $2, '', now())", row, key
    )
    holder = await asyncpg.connect(dsn_of(pool))
    async with holder.transaction():
        await holder.execute("SELECT FROM certificate_request FOR UPDATE")
        assert (await reseal(pool, column, LocalCipher(KEYS))).rows == 0
    assert (await reseal(pool, column, LocalCipher(KEYS))).rows == 1
    await holder.close()
    await pool.close()


def _place(column: EncryptedColumn, row: str) -> dict[str, str]:
    table = column.place[0] or column.table
    return {"table": table, "column": column.place[1] or column.column, "row": row}


async def _row(pool: Pool, column: EncryptedColumn, cipher: LocalCipher | None) -> None:
    """One whose secret lies under this cipher's key; None: what is no secret, and nothing."""
    names = sorted(set(re.findall(r"\b[a-z_]+\b", re.sub(r"::\w+|'[^']*'", "", column.row))))
    kinds = {row["attname"]: row["kind"] for row in await pool.fetch(TYPES, column.table, names)}
    assert set(kinds) == set(names)
    values = [uuid4() if kinds[name] == "uuid" else "a:b" for name in names]
    places = ", ".join(f"${number}" for number in range(1, len(names) + 1))
    row = await pool.fetchval(
        f"INSERT INTO {column.table} ({', '.join(names)}) VALUES ({places}) RETURNING {column.row}",
        *values,
    )
    blob: Any = b"<?xml"
    if cipher is not None:
        blob = cipher.encrypt(b"secret", **_place(column, row))
    if column.many:
        blob = [blob, None, blob]
    await pool.execute(
        f"UPDATE {column.table} SET {column.column} = $1 "
        f"WHERE {column.row} = $2 AND {column.column} IS NULL",
        blob,
        row,
    )
