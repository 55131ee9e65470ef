"""`muster devices`: who is managed, what is true of each device, and how it is judged."""

from __future__ import annotations

import argparse
from typing import Any
from uuid import UUID

from tools.cli.client import Client
from tools.cli.errors import CliError
from tools.cli.known import of_devices
from tools.cli.output import ago, fields, table, text

_NONE = (
    "No device is enrolled. `muster credentials create` makes the address at which one may; "
    "`muster simulate apple` enrolls simulated ones."
)
_NO_MATCH = "No device matches: leave out --platform, --state or --find to see the others."
_HEAD = ("name", "serial", "model", "os", "state", "compliance", "last seen", "device id")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("devices", help="list devices, or show one")
    parser.add_argument("--platform", help="ios, ipados, macos, …")
    parser.add_argument("--state", choices=["pending", "enrolled", "quarantined", "ended"])
    parser.add_argument("--find", metavar="TEXT", help="beginning of a name, serial or user")
    parser.add_argument("--most", type=int, default=1000, metavar="N", help="rows (default 1000)")
    parser.set_defaults(run=run_list)
    more = parser.add_subparsers(metavar="ACTION")
    show = more.add_parser("show", help="facts, enrollments and verdicts of one device")
    show.add_argument("device", help="id, serial or name")
    show.set_defaults(run=run_show)
    for name, text_ in (
        ("release", "let a quarantined enrollment in"),
        ("revoke", "end its enrollment and revoke its certificates"),
    ):
        action = more.add_parser(name, help=text_)
        action.add_argument("device", help="id, serial or name")
        action.add_argument("--reason", required=True)
        action.set_defaults(run=run_order, order=name)


def run_list(arguments: argparse.Namespace) -> int:
    client = Client()
    query = {"platform": arguments.platform, "state": arguments.state, "q": arguments.find}
    known = list(client.pages("enrollment", "/devices", query, most=arguments.most))
    ids = [row["device_id"] for row in known]
    inventory = of_devices(client, "inventory", ids)
    compliance = of_devices(client, "compliance", ids)
    rows = [_row(row, inventory, compliance) for row in known]
    table(_HEAD, rows, empty=_NO_MATCH if any(query.values()) else _NONE)
    return 0


def _row(
    row: dict[str, Any], inventory: dict[str, dict[str, Any]], compliance: dict[str, dict[str, Any]]
) -> tuple[Any, ...]:
    device_id = row["device_id"]
    facts = inventory.get(device_id, {})
    return (
        facts.get("name") or row["name"],
        row["serial"],
        row["product"] or row["model"],
        facts.get("os_version") or row["os_version"],
        "quarantined" if row["quarantine"] else row["state"],
        compliance.get(device_id, {}).get("state"),
        ago(_latest(row["last_seen"], facts.get("last_seen_at"))),
        device_id,
    )


def _latest(*instants: str | None) -> str | None:
    return max((instant for instant in instants if instant), default=None)


def resolve(client: Client, word: str) -> str:
    """The id of the device that an id, a serial or a name means; refuses what is not one device."""
    if _is_id(word):
        return str(client.call("enrollment", "GET", f"/devices/{UUID(word)}")["device_id"])
    found = client.call("enrollment", "GET", "/devices", query={"q": word, "limit": 20})
    rows = found["items"]
    exact = [row for row in rows if word.lower() in {_low(row["serial"]), _low(row["name"])}]
    rows = exact or rows
    if len(rows) == 1:
        return str(rows[0]["device_id"])
    if not rows:
        raise CliError(f"no device is called {word}: see `muster devices`")
    names = ", ".join(f"{row['name']} ({row['serial']})" for row in rows[:5])
    raise CliError(f"{word} may be {names}: write the serial or the id")


def _is_id(word: str) -> bool:
    try:
        UUID(word)
    except ValueError:
        return False
    return True


def _low(value: str | None) -> str:
    return (value or "").lower()


def run_show(arguments: argparse.Namespace) -> int:
    client = Client()
    device_id = resolve(client, arguments.device)
    device = client.call("enrollment", "GET", f"/devices/{device_id}")
    enrollments = device.pop("enrollments")
    facts = client.call("inventory", "GET", f"/devices/{device_id}/facts")["items"]
    reported = {fact["name"]: fact["value"] for fact in facts}
    device["name"] = reported.get("device.name") or device["name"]
    fields(device)
    print()
    table(
        ("enrollment", "generation", "state", "enrolled", "ended", "why"),
        (
            (
                each["enrollment_id"],
                each["generation"],
                each["state"],
                ago(each["enrolled_at"]),
                ago(each["ended_at"]),
                each["end_reason"] or "; ".join(each["reasons"]) or None,
            )
            for each in enrollments
        ),
        empty="No enrollment.",
    )
    print()
    table(
        ("fact", "value", "since"),
        ((fact["name"], _short(fact["value"]), ago(fact["changed_at"])) for fact in facts),
        empty="Nothing was reported yet: its first inventory follows within a minute of enrolling.",
    )
    print()
    verdicts = client.call("compliance", "GET", f"/devices/{device_id}/verdicts")["items"]
    table(
        ("policy", "rule", "state", "explanation"),
        (
            (verdict["policy_name"], finding["rule"], finding["state"], finding["explanation"])
            for verdict in verdicts
            for finding in verdict["findings"]
        ),
        empty="No policy applies to it.",
    )
    return 0


def _short(value: Any, longest: int = 80) -> str:
    shown = text(value)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def run_order(arguments: argparse.Namespace) -> int:
    client = Client()
    device_id = resolve(client, arguments.device)
    path = f"/devices/{device_id}/{arguments.order}"
    fields(client.call("enrollment", "POST", path, {"reason": arguments.reason}))
    return 0
