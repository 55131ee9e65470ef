"""`muster keys`: by which keys services encrypt what they keep, and changing them.

It stands beside the database and the folder of keys of a service, and asks no service. The audit
says who changed them.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from shared.bus import outbox
from shared.db.pool import Pool, open_pool, transaction
from shared.events.audit import AuditRecorded
from shared.events.base import uuid7
from shared.events.registry import SERVICES
from shared.runtime import resealing
from shared.runtime.resealing import Resealed, Standing
from shared.runtime.settings import Settings
from shared.sealed import LocalCipher, SealError, rotate_service_keys
from tools.cli import place, services
from tools.cli.client import actor
from tools.cli.errors import CliError
from tools.cli.output import table

_ROUNDS = 3
"""Rows that somebody held, or that moved while we walked, are met in the next round."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("keys", help="keys that services encrypt by: status, rotation")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, what, run in (
        ("status", "how many secrets lie under which local key", run_status),
        ("rotate", "make a new key of each kind; what is kept stays as it is", run_rotate),
        ("reseal", "encrypt what lies under older local keys with the newest", run_reseal),
    ):
        action = actions.add_parser(name, help=what)
        action.add_argument("service", choices=[*SERVICES, "all"], **services.NAMED_OR_ALL)
        action.set_defaults(run=run)


def run_status(arguments: argparse.Namespace) -> int:
    rows: list[Sequence[object]] = []
    for name in _named(arguments):
        rows += asyncio.run(_status(name))
    table(("service", "column", "key", "secrets", "state"), rows, empty="Nothing is encrypted.")
    return 0


def run_rotate(arguments: argparse.Namespace) -> int:
    for name in _named(arguments):
        asyncio.run(_rotate(name))
        print(f"{name}: new keys. Start all its processes anew, then: muster keys reseal {name}")
    return 0


def run_reseal(arguments: argparse.Namespace) -> int:
    """1: something is left under an older key."""
    return max([asyncio.run(_reseal(name)) for name in _named(arguments)])


async def _status(name: str) -> list[Sequence[object]]:
    rows: list[Sequence[object]] = []
    async with _opened(name) as pool:
        for found, cipher in await _standings(pool, name):
            for key_id, count in sorted(found.by_key.items()):
                rows.append((name, found.column.name, key_id, count, _called(key_id, cipher)))
    return rows


async def _rotate(name: str) -> None:
    async with _opened(name) as pool:
        await _record(pool, name, "keys.rotate", {})  # first: what is not on record is not done
    rotate_service_keys(_settings(name).keys_dir, name)


async def _record(pool: Pool, name: str, action: str, after: dict[str, Any]) -> None:
    entry = AuditRecorded(
        audit_id=uuid7(),
        actor=actor(),
        permission=action,
        action=action,
        target=f"keys:{name}",
        after=after,
    )
    async with transaction(pool) as tx:
        await outbox.emit(tx, [entry])


async def _reseal(name: str) -> int:
    done, rounds = 0, 0
    async with _opened(name) as pool:
        while True:
            walked = await _walk(pool, name)
            done, rounds = done + walked.rows, rounds + 1
            standings = await _standings(pool, name)
            left = sum(found.older_than(cipher.newest) for found, cipher in standings)
            if left <= walked.unopened or rounds == _ROUNDS:
                break
        await _record(pool, name, "keys.reseal", {"encrypted_anew": done, "left": left})
    why = f", of which {walked.unopened} do not open" if walked.unopened else ""
    print(f"{name}: {done} encrypted anew, {left} left under older keys{why}")
    if not left:
        for key_id in _older(cipher for _, cipher in standings):
            print(f"{name}: nothing is under {key_id} any more")
    return 1 if left else 0


async def _walk(pool: Pool, name: str) -> Resealed:
    keys, whole = _settings(name).keys_dir, Resealed()
    for column in services.load(name).encrypted:
        cipher = LocalCipher.load(keys / (column.keys or name))
        walked = await resealing.reseal(pool, column, cipher)
        whole.rows += walked.rows
        whole.unopened += walked.unopened
    return whole


async def _standings(pool: Pool, name: str) -> list[tuple[Standing, LocalCipher]]:
    keys = _settings(name).keys_dir
    return [
        (await resealing.standing(pool, column), LocalCipher.load(keys / (column.keys or name)))
        for column in services.load(name).encrypted
    ]


def _called(key_id: str, cipher: LocalCipher) -> str:
    if key_id == cipher.newest:
        return "newest"
    return "older" if key_id in cipher.older else "no such key is here"


def _older(ciphers: Iterable[LocalCipher]) -> list[str]:
    return sorted({key_id for cipher in ciphers for key_id in cipher.older})


def _named(arguments: argparse.Namespace) -> Sequence[str]:
    return SERVICES if arguments.service == "all" else [arguments.service]


def _settings(name: str) -> Settings:
    return Settings.load(place.environment_of(name), name)


@asynccontextmanager
async def _opened(name: str) -> AsyncIterator[Pool]:
    pool = await open_pool(_settings(name).database_url, name="muster:cli", max_size=1)
    try:
        yield pool
    except SealError as error:
        raise CliError(f"{name}: {error}") from None
    finally:
        await pool.close()
