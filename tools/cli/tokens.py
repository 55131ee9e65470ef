"""`muster token`: an access token from the embedded installation's own key, audited."""

from __future__ import annotations

import argparse
import asyncio
from datetime import timedelta

from shared.bus import outbox
from shared.db.pool import open_pool, transaction
from shared.events.audit import AuditRecorded
from shared.events.base import uuid7
from shared.events.registry import SERVICES
from shared.runtime.settings import Settings
from tools.cli import place
from tools.cli.client import actor, local_signer
from tools.cli.output import note
from tools.cli.services import NAMED

LONGEST = 15


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "token", help="make an access token for one service (embedded installation only)"
    )
    parser.add_argument("--audience", required=True, choices=SERVICES, **NAMED)
    parser.add_argument(
        "--minutes", type=_minutes, default=LONGEST, metavar="N", help="at most 15 (default 15)"
    )
    parser.add_argument(
        "--permission", action="append", metavar="AREA.VERB", help="repeatable; none: all"
    )
    parser.set_defaults(run=run)


def _minutes(text: str) -> int:
    value = int(text)
    if not 1 <= value <= LONGEST:
        raise argparse.ArgumentTypeError("a token lives for 1 to 15 minutes")
    return value


def run(arguments: argparse.Namespace) -> int:
    signer = local_signer(place.home().keys)
    permissions = arguments.permission or ["*"]
    # Audited first: a token that could not be recorded is not made.
    asyncio.run(_record(arguments.audience, arguments.minutes, permissions))
    lifetime = timedelta(minutes=arguments.minutes)
    print(signer.access(actor(), arguments.audience, permissions, lifetime))
    note(f"For {arguments.audience} only, {arguments.minutes} minutes.")
    return 0


async def _record(audience: str, minutes: int, permissions: list[str]) -> None:
    event = AuditRecorded(
        audit_id=uuid7(),
        actor=actor(),
        permission="key of the console",
        action="token.create",
        target=f"service:{audience}",
        after={"minutes": minutes, "permissions": permissions},
        source="muster token",
    )
    settings = Settings.load(place.environment_of("console"), "console")
    pool = await open_pool(settings.database_url, name="muster:cli", max_size=1)
    try:
        async with transaction(pool) as tx:
            await outbox.emit(tx, [event])
    finally:
        await pool.close()
