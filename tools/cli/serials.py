"""`muster serials`: which hardware may enroll without a person looking at it."""

from __future__ import annotations

import argparse
import csv
from itertools import islice
from pathlib import Path

from tools.cli.client import Client
from tools.cli.errors import CliError
from tools.cli.output import ago, note, table

_AT_ONCE = 1_000


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("serials", help="say which hardware may enroll, by serial")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    named = actions.add_parser("add", help="let these enroll")
    named.add_argument("serial", nargs="+")
    named.add_argument("--note", help="where they come from")
    named.set_defaults(run=run_add)
    file = actions.add_parser("import", help="let those of a file enroll: CSV, or one a line")
    file.add_argument("file", type=Path)
    file.set_defaults(run=run_import)
    shown = actions.add_parser("list", help="in their order")
    shown.add_argument("--find", metavar="TEXT", help="the beginning of a serial")
    shown.set_defaults(run=run_list)
    removed = actions.add_parser("remove", help="take these off; who has enrolled stays")
    removed.add_argument("serial", nargs="+")
    removed.set_defaults(run=run_remove)


def run_add(arguments: argparse.Namespace) -> int:
    body = {"serials": arguments.serial, "note": arguments.note}
    note(f"{Client().call('enrollment', 'POST', '/serials', body)['changed']} more are listed.")
    return 0


def run_import(arguments: argparse.Namespace) -> int:
    client, changed, total = Client(), 0, 0
    serials = iter(_serials(arguments.file))
    while chunk := list(islice(serials, _AT_ONCE)):
        changed += client.call("enrollment", "POST", "/serials", {"serials": chunk})["changed"]
        total += len(chunk)
    note(f"{total} serials, {changed} of them are new on the list.")
    return 0


def _serials(file: Path) -> list[str]:
    """The column `serial` of a file with a heading, else its first one."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = [row for row in csv.reader(lines) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CliError(f"{file} cannot be read: {error}") from None
    names = [cell.strip().lower() for cell in rows[0]] if rows else []
    place = names.index("serial") if "serial" in names else 0
    body = rows[1:] if "serial" in names else rows
    return [row[place].strip() for row in body if len(row) > place and row[place].strip()]


def run_list(arguments: argparse.Namespace) -> int:
    found = Client().pages("enrollment", "/serials", {"q": arguments.find}, most=1_000_000)
    rows = ((one["serial"], one["note"], one["added_by"], ago(one["added_at"])) for one in found)
    empty = "No serial is listed: add some with `muster serials add`."
    table(("serial", "note", "added by", "when"), rows, empty=empty)
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    body = {"serials": arguments.serial}
    gone = Client().call("enrollment", "POST", "/serials/remove", body)["changed"]
    note(f"{gone} were taken off the list.")
    return 0
