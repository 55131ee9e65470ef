"""`muster dead-letters`: events that a service gave up, shown, tried again or dropped."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from shared.bus import dead_letters
from shared.db.pool import Pool, open_pool
from shared.events.registry import SERVICES
from shared.runtime.redaction import redact_text
from shared.runtime.settings import Settings
from tools.cli import place
from tools.cli.client import actor
from tools.cli.errors import CliError
from tools.cli.output import ago, fields, note, table
from tools.cli.services import NAMED


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("dead-letters", help="events that a service gave up")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="in the order they died")
    listed.add_argument("service", choices=SERVICES, **NAMED)
    listed.add_argument("--most", type=int, default=200, metavar="N")
    listed.set_defaults(run=run_list)
    show = actions.add_parser("show", help="all that is known of one")
    show.add_argument("service", choices=SERVICES, **NAMED)
    show.add_argument("id", type=UUID, metavar="ID")
    show.add_argument("--value", action="store_true", help="the event itself, secrets hidden")
    show.set_defaults(run=run_show)
    for name, what in (
        ("replay", "let the service try them again, with every check"),
        ("drop", "forget them for good"),
    ):
        action = actions.add_parser(name, help=what)
        action.add_argument("service", choices=SERVICES, **NAMED)
        action.add_argument("ids", nargs="*", metavar="ID")
        action.add_argument("--all", action="store_true", help="all that are listed")
        action.add_argument("--reason", required=True)
        action.set_defaults(run=run_order, order=name, gathers="ids")


@asynccontextmanager
async def _pool(service: str) -> AsyncIterator[Pool]:
    settings = Settings.load(place.environment_of(service), service)
    pool = await open_pool(settings.database_url, name="muster:cli", max_size=2)
    try:
        yield pool
    finally:
        await pool.close()


async def _list(service: str, most: int) -> Sequence[dead_letters.DeadLetter]:
    async with _pool(service) as pool:
        return await dead_letters.list_(pool, limit=most)


def run_list(arguments: argparse.Namespace) -> int:
    rows = (
        (
            letter.id,
            letter.type,
            f"{letter.topic} {letter.partition}/{letter.offset}",
            ago(letter.failed_at.isoformat()),
            letter.reason,
            letter.error,
            "asked" if letter.replay_requested_at else letter.replays,
        )
        for letter in asyncio.run(_list(arguments.service, arguments.most))
    )
    head = ("id", "type", "from", "died", "reason", "error", "replays")
    table(head, rows, empty=f"{arguments.service} has given up nothing.")
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    letter = asyncio.run(_show(arguments.service, arguments.id))
    if letter is None:
        raise CliError(f"{arguments.service} has no dead letter {arguments.id}")
    hidden = {"value", "headers", "trace", "key"}
    fields({name: value for name, value in vars(letter).items() if name not in hidden})
    print("\nheaders")
    fields({f"  {name}": value for name, value in letter.headers.items()})
    print(f"\ntrace\n{letter.trace}")
    if arguments.value and letter.value is not None:
        print(f"\nvalue\n{redact_text(letter.value.decode(errors='replace'))}")
    return 0


async def _show(service: str, letter_id: UUID) -> dead_letters.Whole | None:
    async with _pool(service) as pool:
        return await dead_letters.show(pool, letter_id)


def run_order(arguments: argparse.Namespace) -> int:
    if bool(arguments.ids) == arguments.all:
        raise CliError("name dead letters by their ids, or write --all")
    done = asyncio.run(_order(arguments))
    missing = 0 if arguments.all else len(set(arguments.ids)) - len(done)
    if missing:
        note(f"{missing} not found: see `muster dead-letters list`.")
    what = "will be tried again" if arguments.order == "replay" else "dropped"
    print(f"{len(done)} dead letter(s) {what}")
    return 1 if missing else 0


async def _order(arguments: argparse.Namespace) -> list[UUID]:
    ids = [_id(word) for word in arguments.ids]
    if arguments.all:
        ids = [letter.id for letter in await _list(arguments.service, 10_000)]
    act = dead_letters.replay if arguments.order == "replay" else dead_letters.drop
    async with _pool(arguments.service) as pool:
        return await act(pool, ids, actor=actor(), reason=arguments.reason)


def _id(word: str) -> UUID:
    try:
        return UUID(word)
    except ValueError:
        raise CliError(
            f"{word} is no id of a dead letter: see `muster dead-letters list`"
        ) from None
