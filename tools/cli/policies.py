"""`muster policies` and `muster verdicts`: what is demanded of devices, and who meets it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tools.cli.client import Client
from tools.cli.errors import CliError
from tools.cli.known import of_devices
from tools.cli.output import ago, table

STATES = ("compliant", "noncompliant", "not_evaluated", "stale", "error", "not_applicable")
_NO_VERDICT = (
    "No verdict: a device is judged as soon as it is enrolled and a policy is in force: see "
    "`muster devices` and `muster policies list`."
)
_NO_MATCH = "No verdict matches: `muster policies list` counts the verdicts by policy and state."
_EXAMPLE = """a file holds for example:
  {"name": "Basics", "rules": [
    {"kind": "passcode_present", "platforms": ["ios", "ipados"]},
    {"kind": "encryption_on"},
    {"kind": "os_at_least", "versions": {"ios": "17.0", "macos": "14.0"}}]}
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("policies", help="list, create and delete policies")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="with their counts").set_defaults(run=run_list)
    create = actions.add_parser(
        "create",
        help="from a JSON file",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    create.add_argument("--file", type=Path, required=True)
    create.add_argument("--reason")
    create.set_defaults(run=run_create)
    delete = actions.add_parser("delete", help="take a policy out of force")
    delete.add_argument("policy_id")
    delete.set_defaults(run=run_delete)
    verdicts = commands.add_parser("verdicts", help="which devices meet which policies, and why")
    verdicts.add_argument("--policy", metavar="ID")
    verdicts.add_argument("--state", choices=STATES)
    verdicts.add_argument("--most", type=int, default=1000, metavar="N")
    verdicts.set_defaults(run=run_verdicts)


def run_list(_arguments: argparse.Namespace) -> int:
    rows = (
        (
            policy["policy_id"],
            policy["name"],
            policy["version"],
            len(policy["rules"]),
            *(policy["counts"].get(state, 0) for state in STATES[:5]),
            ago(policy["changed_at"]),
        )
        for policy in Client().pages("compliance", "/policies", most=1000)
    )
    head = ("policy id", "name", "version", "rules", *STATES[:5], "changed")
    table(head, rows, empty="No policy: make one with `muster policies create --file FILE`.")
    return 0


def run_create(arguments: argparse.Namespace) -> int:
    body = _read(arguments.file)
    if arguments.reason:
        body["reason"] = arguments.reason
    print(Client().call("compliance", "POST", "/policies", body)["policy_id"])
    return 0


def _read(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise CliError(f"{path} is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise CliError(f"{path} must hold one JSON object: see `muster policies create --help`")
    return body


def run_delete(arguments: argparse.Namespace) -> int:
    Client().call("compliance", "DELETE", f"/policies/{arguments.policy_id}")
    return 0


def run_verdicts(arguments: argparse.Namespace) -> int:
    client = Client()
    query = {"policy": arguments.policy, "state": arguments.state}
    found = list(client.pages("compliance", "/verdicts", query, most=arguments.most))
    reported = of_devices(client, "inventory", {verdict["device_id"] for verdict in found})
    rows = (
        (
            reported.get(verdict["device_id"], {}).get("name") or verdict["device_name"],
            verdict["serial"] or verdict["device_id"],
            verdict["policy_name"],
            verdict["state"],
            ago(verdict["changed_at"]),
            _why(verdict),
        )
        for verdict in found
    )
    head = ("device", "serial", "policy", "state", "since", "why")
    table(head, rows, empty=_NO_MATCH if any(query.values()) else _NO_VERDICT)
    return 0


def _why(verdict: dict[str, Any]) -> str:
    """What keeps it from being compliant; nothing when it is."""
    bad = [f for f in verdict["findings"] if f["state"] not in {"compliant", "not_applicable"}]
    return "; ".join(f"{finding['rule']}: {finding['explanation']}" for finding in bad[:3])
