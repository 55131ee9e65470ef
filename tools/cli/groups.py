"""`muster groups`: static groups, the scopes of people's rights, and who is in them."""

from __future__ import annotations

import argparse
from typing import Any
from uuid import UUID

from tools.cli.client import Client
from tools.cli.devices import resolve
from tools.cli.errors import CliError
from tools.cli.output import ago, note, table

_NONE = "No group: make one with `muster groups create NAME`."
_NO_MEMBER = "Nobody is in it: see `muster groups add --help`."
_AT_ONCE = 10_000
_HEAD = ("name", "members", "protected", "description", "changed", "group id")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("groups", help="list, make and fill groups of devices")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="all groups, or the members of one")
    listed.add_argument("group", nargs="?", help="id or name")
    listed.add_argument("--most", type=int, default=1000, metavar="N", help="rows (default 1000)")
    listed.set_defaults(run=run_list)
    create = actions.add_parser("create", help="an empty group")
    create.add_argument("name")
    create.add_argument("--description")
    create.add_argument(
        "--protected", action="store_true", help="always hold destructive commands to its members"
    )
    create.add_argument("--reason")
    create.set_defaults(run=run_create)
    for name, text in (("add", "put devices into a group"), ("remove", "take devices out of it")):
        action = actions.add_parser(name, help=text)
        action.add_argument("group", help="id or name")
        action.add_argument("devices", nargs="*", metavar="DEVICE", help="ids, serials or names")
        action.add_argument("--reason")
        action.set_defaults(run=run_move, what=name, gathers="devices")
    delete = actions.add_parser("delete", help="take a group, and the rights on it, away")
    delete.add_argument("group", help="id or name")
    delete.add_argument("--reason")
    delete.set_defaults(run=run_delete)


def run_list(arguments: argparse.Namespace) -> int:
    client = Client()
    if arguments.group:
        return _members(client, find(client, arguments.group), arguments.most)
    rows = (
        (
            group["name"],
            group["members"],
            group["protected"],
            group["description"],
            ago(group["changed_at"]),
            group["group_id"],
        )
        for group in client.pages("inventory", "/groups", most=arguments.most)
    )
    table(_HEAD, rows, empty=_NONE)
    return 0


def _members(client: Client, group_id: str, most: int) -> int:
    rows = (
        (one["name"], one["serial"], one["platform"], ago(one["added_at"]), one["device_id"])
        for one in client.pages("inventory", f"/groups/{group_id}/members", most=most)
    )
    table(("name", "serial", "platform", "added", "device id"), rows, empty=_NO_MEMBER)
    return 0


def find(client: Client, word: str) -> str:
    """The id of the group that an id or a name means; refuses what is none."""
    try:
        return str(UUID(word))
    except ValueError:
        pass
    for group in client.pages("inventory", "/groups", {"q": word}, most=_AT_ONCE):
        if group["name"].lower() == word.lower():
            return str(group["group_id"])
    raise CliError(f"no group is called {word}: see `muster groups list`")


def run_create(arguments: argparse.Namespace) -> int:
    body = {
        "name": arguments.name,
        "description": arguments.description,
        "protected": arguments.protected,
        "reason": arguments.reason,
    }
    print(Client().call("inventory", "POST", "/groups", body)["group_id"])
    return 0


def run_move(arguments: argparse.Namespace) -> int:
    if not arguments.devices:
        raise CliError("name the devices: ids, serials or names")
    client = Client()
    group_id = find(client, arguments.group)
    devices = [resolve(client, word) for word in arguments.devices]
    path = f"/groups/{group_id}/members" + ("/remove" if arguments.what == "remove" else "")
    for at in range(0, len(devices), _AT_ONCE):
        body: dict[str, Any] = {"device_ids": devices[at : at + _AT_ONCE]}
        moved = client.call("inventory", "POST", path, body | {"reason": arguments.reason})
        note(f"{moved['moved']} moved; {moved['members']} in the group now")
    return 0


def run_delete(arguments: argparse.Namespace) -> int:
    client = Client()
    path = f"/groups/{find(client, arguments.group)}"
    client.call("inventory", "DELETE", path, query={"reason": arguments.reason})
    return 0
