"""`muster audit`: an export verified offline; personal data taken out of the audit, audited."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from services.console.audit.erasing import erase
from services.console.audit.verifying import MAX_LINE, Broken, Report, Told, verify
from shared.db.pool import open_pool
from shared.runtime.clock import SystemClock
from shared.runtime.http import Caller
from shared.runtime.settings import Settings
from tools.cli import place
from tools.cli.client import actor
from tools.cli.errors import CliError
from tools.cli.output import fields, note


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("audit", help="prove that nobody rewrote the audit")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    checked = actions.add_parser("verify", help="check an export, without any database")
    checked.add_argument("file", type=Path, help="what the page Audit or its API exported")
    checked.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="FILE",
        help="a root from outside: the line of the log, the webhook's body, or the event's value",
    )
    checked.add_argument(
        "--key",
        action="append",
        default=[],
        type=Path,
        metavar="PEM",
        help="a public key that you trust: console-….audit.pub; without it the export's are shown",
    )
    checked.set_defaults(run=run_verify)
    erased = actions.add_parser("erase", help="take personal data out; the proof stays")
    erased.add_argument("entries", nargs="*", type=UUID, metavar="ID", help="ids of entries")
    erased.add_argument("--actor", help="all that somebody did, such as account:…")
    erased.add_argument("--target", help="all that was done to something")
    erased.add_argument("--reason", required=True, help="is on record; name nobody")
    erased.set_defaults(run=run_erase)


def run_verify(arguments: argparse.Namespace) -> int:
    if not arguments.root and not arguments.key:
        raise CliError(
            "say --root or --key: an export that is compared with nothing proves nothing"
        )
    told = [_root(text) for text in arguments.root]
    keys = [_key(path) for path in arguments.key]
    try:
        with _opened(arguments.file) as file:
            report = verify(_lines(file), told, keys)
    except Broken as broken:
        print(f"BROKEN ({broken.kind.replace('_', ' ')}): {broken.detail}")
        return 1
    _say(report, told, trusted=bool(keys))
    return 0 if report.last else 1


def run_erase(arguments: argparse.Namespace) -> int:
    if not arguments.entries and arguments.actor is None and arguments.target is None:
        raise CliError("say whose content goes: ids of entries, --actor or --target")
    count = asyncio.run(_erase(arguments))
    entries = "entry says" if count == 1 else "entries say"
    print(f"{count:,} {entries} no more who, whom and which values.")
    note("Kafka has them for up to 30 days more, and whoever was told by webhook.")
    return 0


async def _erase(arguments: argparse.Namespace) -> int:
    settings = Settings.load(place.environment_of("console"), "console")
    pool = await open_pool(settings.database_url, name="muster:cli", max_size=1)
    try:
        return await erase(
            pool,
            SystemClock(),
            Caller(actor(), frozenset(), source="muster audit erase"),
            arguments.reason,
            entries=arguments.entries,
            actor=arguments.actor,
            target=arguments.target,
        )
    finally:
        await pool.close()


def _say(report: Report, told: list[Told], *, trusted: bool) -> None:
    first, last = report.first, report.last
    fields(
        {
            "links": f"{report.links:,} of {len(report.chains)} chains",
            "roots": f"{report.roots:,}",
            "first root": first and f"{first.number} of {first.signed_at}",
            "last root": last and f"{last.number} of {last.signed_at}",
            "erased": report.erased or None,
            "withheld": report.withheld or None,
            "late offsets": report.late or None,
            "offsets without a link": report.skipped or None,
            "chains without their first links": report.begun or None,
            "links under no root yet": report.after or None,
            **{f"key {key_id}": key for key_id, key in sorted(report.keys.items())},
        }
    )
    if last is None:
        print("UNPROVEN: the links follow each other, but no root is over them yet.")
    elif told:
        newest = max(one.root.number for one in told)
        print(f"GOOD: everything up to root {newest} is as it was when that root was told.")
    else:
        print(f"GOOD: everything up to root {last.number} is as it was when that was signed.")
    if not trusted:
        note("The keys are the export's own. Compare them with console-….audit.pub, or say --key.")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
    with file:
        yield file


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Line by line, none longer than any that we write."""
    while text := file.readline(MAX_LINE):
        yield text


def _root(given: str) -> Told:
    try:
        text = given.encode() if given.lstrip().startswith("{") else Path(given).read_bytes()
        return Told.read(text)
    except OSError as error:
        raise CliError(f"{given}: {error.strerror}") from None
    except ValueError as error:
        raise CliError(f"{given[:80]}: {error}") from None


def _key(path: Path) -> str:
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise CliError(f"{path}: this is no public Ed25519 key")
    return key.public_bytes_raw().hex()
