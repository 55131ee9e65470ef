"""`muster credentials`: who may enroll, how often and until when."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta

from tools.cli.client import Client
from tools.cli.output import ago, fields, note, table


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("credentials", help="create, list and revoke ways to enroll")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make one; prints the address, this once")
    create.add_argument("--name", default="enrollment")
    create.add_argument("--uses", type=int, default=1, metavar="N", help="devices (default 1)")
    create.add_argument("--days", type=int, metavar="N", help="until it ends (default: a week)")
    create.add_argument("--serial", help="this hardware only")
    create.add_argument(
        "--any-serial", action="store_true", help="also hardware that is on no list"
    )
    create.add_argument("--user", help="whom the devices belong to")
    create.add_argument("--platform", help="ios, ipados, macos, …")
    create.add_argument("--ownership", choices=["corporate", "personal"])
    create.add_argument("--unsigned", action="store_true", help="the profile may be had unsigned")
    create.set_defaults(run=run_create)
    actions.add_parser("list", help="newest first").set_defaults(run=run_list)
    revoke = actions.add_parser("revoke", help="nobody enrolls with it any more")
    revoke.add_argument("credential_id")
    revoke.set_defaults(run=run_revoke)


def run_create(arguments: argparse.Namespace) -> int:
    body = {
        "name": arguments.name,
        "max_uses": arguments.uses,
        "serial": arguments.serial,
        "serials": "any" if arguments.any_serial else None,
        "user": arguments.user,
        "platform": arguments.platform,
        "ownership": arguments.ownership,
        "unsigned_allowed": arguments.unsigned or None,
    }
    if arguments.days:
        body["expires_at"] = (datetime.now(UTC) + timedelta(days=arguments.days)).isoformat()
    wanted = {name: value for name, value in body.items() if value is not None}
    made = Client().call("enrollment", "POST", "/credentials", wanted)
    print(made["enroll_url"])
    note(f"For {made['max_uses']} device(s), {ago(made['expires_at'])}; {made['credential_id']}.")
    return 0


def run_list(_arguments: argparse.Namespace) -> int:
    rows = (
        (
            made["credential_id"],
            made["name"],
            f"{made['uses']}/{made['max_uses']}",
            "revoked" if made["revoked_at"] else ago(made["expires_at"]),
            made["serial"],
            made["user"],
            made["created_by"],
        )
        for made in Client().pages("enrollment", "/credentials", most=1000)
    )
    head = ("credential id", "name", "used", "ends", "serial", "user", "made by")
    table(head, rows, empty="No credential: make one with `muster credentials create`.")
    return 0


def run_revoke(arguments: argparse.Namespace) -> int:
    path = f"/credentials/{arguments.credential_id}"
    fields(Client().call("enrollment", "DELETE", path))
    return 0
