"""Plain SQL files, applied once each and in order, to the schema of one service.

`NNNN_pre_name.sql` runs before new code starts, `NNNN_post_name.sql` when no old code is left. A
file whose first line is `-- no-transaction` must hold one statement (`CREATE INDEX CONCURRENTLY`).
`rights.sql` beside the folder says what other roles have in the schema; it runs each time, last.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import asyncpg

from shared.db.partitions import ensure_all
from shared.db.pool import Connection, Pool

Phase = Literal["pre", "post", "all"]
Folders = Mapping[str, Path]
"""Where a schema's files come from, by the name they are recorded under, in order."""

_RIGHTS = "rights.sql"
_ROOT = Path(__file__).resolve().parents[2]
_NAME = re.compile(r"(\d{4})_(pre|post)_[a-z0-9_]+\.sql")
_NO_TRANSACTION = "-- no-transaction"
_SETTINGS = {"application_name": "muster-migrate", "statement_timeout": "0", "lock_timeout": "120s"}

CREATE_RECORD = """
CREATE TABLE IF NOT EXISTS schema_migration (
    source text NOT NULL,
    number integer NOT NULL,
    name text NOT NULL,
    phase text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, name)
)
"""
TAKE_TURNS = "SELECT pg_advisory_lock(hashtext('muster_migrate'), hashtext($1))"
READ_APPLIED = "SELECT source, name, checksum FROM schema_migration"
RECORD_APPLIED = """
INSERT INTO schema_migration (source, number, name, phase, checksum) VALUES ($1, $2, $3, $4, $5)
"""
READ_VERSIONS = """
SELECT source,
       coalesce(max(number) FILTER (WHERE phase = 'pre'), 0) AS schema_version,
       coalesce(max(number) FILTER (WHERE phase = 'post'), 0) AS compat_version
FROM schema_migration GROUP BY source
"""
HAS_RECORD = "SELECT to_regclass('schema_migration') IS NOT NULL"
HAS_SCHEMA = "SELECT to_regnamespace($1) IS NOT NULL"
CREATE_SCHEMA = "SELECT format('CREATE SCHEMA %I', $1::text)"
SET_PATH = "SELECT set_config('search_path', $1, false)"
KEEP_PATH = """
SELECT format('ALTER ROLE %I SET search_path = %I', current_user, $1::text)
WHERE NOT EXISTS (
    SELECT FROM pg_db_role_setting, unnest(setconfig) AS setting
    WHERE setrole = current_user::regrole AND setting = 'search_path=' || $1::text
)
"""


class SchemaError(Exception):
    """The schema and this code do not fit together; the message says what to do."""


class SchemaTooNewError(SchemaError):
    """The schema no longer serves code as old as this: waiting does not help."""


@dataclass(frozen=True)
class Migration:
    """One file; `source` is the folder's name in the record."""

    source: str
    number: int
    phase: str
    name: str
    sql: str
    applied: bool = False

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def schema_of(service: str) -> str:
    """The schema of a service, which is also the name of its role."""
    return f"muster_{service}"


def folders_of(service: str) -> Folders:
    """The outbox, inbox and dead letters that every service has, then the service's own tables."""
    return {
        "bus": _ROOT / "shared" / "bus" / "migrations",
        service: _ROOT / "services" / service / "migrations",
    }


async def migrate(
    dsn: str, service: str, phase: Phase = "all", *, folders: Folders | None = None
) -> list[str]:
    """Apply what is missing and return the names of what was applied, as `source/file`.

    Raises SchemaError when an applied file has changed since.
    """
    files = _files(folders or folders_of(service))
    connection = await asyncpg.connect(dsn, server_settings=_SETTINGS)
    try:
        await _enter(connection, schema_of(service))
        missing = [f for f in await _marked(connection, files) if not f.applied]
        wanted = [f for f in missing if phase in ("all", f.phase)]
        for file in wanted:
            await _apply(connection, file)
        await ensure_all(connection)
        rights = _ROOT / "services" / service / _RIGHTS
        if folders is None and rights.exists():
            await connection.execute(rights.read_text())
        return [f"{file.source}/{file.name}" for file in wanted]
    finally:
        await connection.close()


async def status(dsn: str, service: str, *, folders: Folders | None = None) -> list[Migration]:
    """Every file of a service and whether it is applied; raises SchemaError on a changed one."""
    files = _files(folders or folders_of(service))
    connection = await asyncpg.connect(dsn, server_settings=_SETTINGS)
    try:
        await connection.fetchval(SET_PATH, schema_of(service))
        return await _marked(connection, files)
    finally:
        await connection.close()


async def check_schema(pool: Pool, service: str, *, folders: Folders | None = None) -> None:
    """Refuse to start on a schema that is too new for this code, or not ready for it yet."""
    files = _files(folders or folders_of(service))
    async with pool.acquire(timeout=5) as connection:
        found = {}
        if await connection.fetchval(HAS_RECORD):
            found = {row["source"]: row for row in await connection.fetch(READ_VERSIONS)}
    for source in {file.source for file in files}:
        own = max(file.number for file in files if file.source == source)
        needed = max(
            (f.number for f in files if f.source == source and f.phase == "pre"), default=0
        )
        row = found.get(source)
        if row and row["compat_version"] > own:
            raise SchemaTooNewError(
                f"{schema_of(service)}: {source} is at {row['compat_version']}, this code knows "
                f"{own}: run the newer release"
            )
        if (row["schema_version"] if row else 0) < needed:
            raise SchemaError(
                f"{schema_of(service)}: {source} needs migration {needed}: run "
                f"`muster db migrate {service}`"
            )


def _files(folders: Folders) -> list[Migration]:
    found: list[Migration] = []
    for source, folder in folders.items():
        of_folder = []
        for path in folder.glob("*.sql"):
            match = _NAME.fullmatch(path.name)
            if not match:
                raise SchemaError(f"{path.name}: name it NNNN_pre_what.sql or NNNN_post_what.sql")
            number, phase = int(match[1]), match[2]
            of_folder.append(Migration(source, number, phase, path.name, path.read_text()))
        numbers = [file.number for file in of_folder]
        if len(numbers) != len(set(numbers)):
            raise SchemaError(f"{source}: two migrations have the same number")
        found.extend(sorted(of_folder, key=lambda file: file.number))
    return found


async def _enter(connection: Connection, schema: str) -> None:
    """Wait for our turn and stand in the schema, which the role owns."""
    await connection.execute(TAKE_TURNS, schema)
    # From here on a lock that is not free soon means live traffic: fail and be run again.
    await connection.execute("SET lock_timeout = '5s'")
    if not await connection.fetchval(HAS_SCHEMA, schema):
        await connection.execute(await connection.fetchval(CREATE_SCHEMA, schema))
    await connection.fetchval(SET_PATH, schema)
    if keep := await connection.fetchval(KEEP_PATH, schema):
        await connection.execute(keep)
    await connection.execute(CREATE_RECORD)


async def _marked(connection: Connection, files: Sequence[Migration]) -> list[Migration]:
    applied = {}
    if await connection.fetchval(HAS_RECORD):
        rows = await connection.fetch(READ_APPLIED)
        applied = {(row["source"], row["name"]): row["checksum"] for row in rows}
    marked = []
    for file in files:
        checksum = applied.get((file.source, file.name))
        if checksum not in (None, file.checksum):
            raise SchemaError(f"{file.source}/{file.name} was changed after it was applied")
        marked.append(
            Migration(
                file.source, file.number, file.phase, file.name, file.sql, checksum is not None
            )
        )
    return marked


async def _apply(connection: Connection, file: Migration) -> None:
    values = (file.source, file.number, file.name, file.phase, file.checksum)
    if file.sql.startswith(_NO_TRANSACTION):
        await connection.execute(file.sql)
        await connection.execute(RECORD_APPLIED, *values)
        return
    async with connection.transaction():
        await connection.execute(file.sql)
        await connection.execute(RECORD_APPLIED, *values)
