"""One database; in it, one schema and one login role a service, closed to the others (engineering:
architecture §1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias
from urllib.parse import quote, urlsplit

import asyncpg

DATABASE = "muster"
WORKERS: Mapping[str, str] = {"webhooks": "console"}
"""Processes that may do less than their service: each has a role of its own in the service's
schema, where `services/<service>/rights.sql` says what it has."""

# Identifiers and literals are quoted by PostgreSQL itself: utility statements take no parameters.
CREATE_ROLE = """
SELECT format('CREATE ROLE %I LOGIN', $1::text)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)
"""
SET_PASSWORD = "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)"  # noqa: S105 - a statement
SET_DEFAULT = "SELECT format('ALTER ROLE %I SET %I = %L', $1::text, $2::text, $3::text)"
CREATE_DATABASE = """
SELECT format('CREATE DATABASE %I', $1::text)
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = $1)
"""
CLOSE_DATABASE = "SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', $1::text)"
LET_CONNECT = "SELECT format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO %I', $1::text, $2::text)"
CLOSE_PUBLIC = "REVOKE ALL ON SCHEMA public FROM PUBLIC"
CREATE_SCHEMA = (
    "SELECT format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', $1::text, $1::text)"
)

# A statement that a person or a device waits for must not wait for ever, and neither may a lock
# (engineering §4).
DEFAULTS = {
    "statement_timeout": "30s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
}

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


def role_of(service: str) -> str:
    """Return the name that a service's login role and its schema share."""
    return f"muster_{service}"


def with_workers(services: Iterable[str]) -> list[str]:
    """The services, and the workers of theirs that have roles."""
    known = list(services)
    return known + [worker for worker, service in WORKERS.items() if service in known]


def dsn_of(admin_dsn: str, service: str, password: str | None, database: str = DATABASE) -> str:
    """Return the address of a database on the same server, as the service's role."""
    address = urlsplit(admin_dsn)
    secret = f":{quote(password, safe='')}" if password else ""
    host = address.netloc.rpartition("@")[2]
    return address._replace(
        netloc=f"{role_of(service)}{secret}@{host}", path=f"/{quote(database, safe='')}"
    ).geturl()


async def provision(
    admin_dsn: str, passwords: Mapping[str, str], *, database: str = DATABASE
) -> dict[str, str]:
    """Create what is missing, set every role's password and defaults; return each one's dsn.
    `passwords` are those of services and workers. Repeatable.
    """
    admin = await asyncpg.connect(admin_dsn)
    try:
        for service, password in passwords.items():
            await create_role(admin, service, password)
        await _execute(admin, CREATE_DATABASE, database)
    finally:
        await admin.close()
    inside = await asyncpg.connect(admin_dsn, database=database)
    try:
        await open_schemas(inside, database, list(passwords))
    finally:
        await inside.close()
    return {
        service: dsn_of(admin_dsn, service, password, database)
        for service, password in passwords.items()
    }


async def create_role(admin: Connection, service: str, password: str | None) -> None:
    """Create the login role of a service or worker, or bring it up to date."""
    role = role_of(service)
    await _execute(admin, CREATE_ROLE, role)
    if password:
        await _execute(admin, SET_PASSWORD, role, password)
    path = role_of(WORKERS.get(service, service))
    for name, value in (DEFAULTS | {"search_path": path}).items():
        await _execute(admin, SET_DEFAULT, role, name, value)


async def open_schemas(inside: Connection, database: str, services: list[str]) -> None:
    """In the connected database: nothing is public, and each service owns its one schema."""
    await admit(inside, database, services)
    await inside.execute(CLOSE_PUBLIC)
    for service in services:
        if service not in WORKERS:
            await _execute(inside, CREATE_SCHEMA, role_of(service))


async def admit(admin: Connection, database: str, services: list[str]) -> None:
    """Let these services' roles connect to a database, and nobody else."""
    await _execute(admin, CLOSE_DATABASE, database)
    for service in services:
        await _execute(admin, LET_CONNECT, database, role_of(service))


async def _execute(connection: Connection, formatted: str, *values: str) -> None:
    """Run the statement that `formatted` yields; none when its condition does not hold."""
    if statement := await connection.fetchval(formatted, *values):
        await connection.execute(statement)
