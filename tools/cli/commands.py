"""`muster command`: ask devices to do something, and see what became of it."""

from __future__ import annotations

import argparse
import base64
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from tools.cli.client import Client
from tools.cli.devices import resolve
from tools.cli.errors import CliError
from tools.cli.known import of_devices
from tools.cli.output import ago, fields, note, table, text

_EXAMPLES = """examples:
  muster command send inventory.refresh C02XK1ABJG5H --param section=security
  muster command send device.lock "Ada's Mac" --param pin=123456 --reason "left in a taxi"
  muster command send configuration.install --all --param profile=@wifi.mobileconfig

a parameter's value is text; NAME=@FILE sends a file as base64, NAME:=JSON any other value
"""
DONE = {"acknowledged", "verified"}
NOT_DONE = {"failed", "expired", "cancelled", "unconfirmed"}
STATES = ("active", "held", "finished", "cancelled", "expired")
_ASKED_AT_ONCE = 50
_NO_COMMAND = "No command yet: see `muster command send --help`."
_NO_MATCH = "No command matches: leave out --kind or --state to see the others."


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("command", help="send commands to devices and follow them")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    send = actions.add_parser(
        "send",
        help="ask devices to do something",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    send.add_argument("kind", help="inventory.refresh, device.lock, configuration.install, …")
    send.add_argument("devices", nargs="*", metavar="DEVICE", help="ids, serials or names")
    send.add_argument("--all", action="store_true", help="every device that is enrolled now")
    send.add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
    send.add_argument("--reason")
    send.add_argument("--priority", type=int, default=0)
    send.add_argument("--expires", type=int, metavar="SECONDS")
    send.add_argument("--key", help="idempotency key; the same key is the same command")
    send.add_argument("--wait", type=float, metavar="SECONDS", help="until all targets ended")
    send.set_defaults(run=run_send, gathers="devices")
    listed = actions.add_parser("list", help="newest first")
    listed.add_argument("--kind")
    listed.add_argument("--state", choices=STATES, metavar="STATE", help=", ".join(STATES))
    listed.add_argument("--most", type=int, default=50, metavar="N")
    listed.set_defaults(run=run_list)
    show = actions.add_parser("show", help="a command and its targets")
    show.add_argument("command_id")
    show.add_argument("--answers", action="store_true", help="with what the devices answered")
    show.add_argument("--most", type=int, default=200, metavar="N")
    show.set_defaults(run=run_show)
    queue = actions.add_parser("queue", help="what waits for a device, and what it has done")
    queue.add_argument("device", help="id, serial or name")
    queue.set_defaults(run=run_queue)
    cancel = actions.add_parser("cancel", help="hand it out no more")
    cancel.add_argument("command_id")
    cancel.add_argument("--reason")
    cancel.set_defaults(run=run_cancel)


def run_send(arguments: argparse.Namespace) -> int:
    client = Client()
    if bool(arguments.devices) == arguments.all:
        raise CliError("name the devices, or write --all for every one that is enrolled")
    body: dict[str, Any] = {
        "kind": arguments.kind,
        "params": parameters(arguments.param),
        "device_ids": [resolve(client, word) for word in arguments.devices],
        "all": arguments.all,
        "idempotency_key": arguments.key or f"cli-{uuid4()}",
        "reason": arguments.reason,
        "priority": arguments.priority,
    }
    if arguments.expires:
        body["expires_in_seconds"] = arguments.expires
    accepted = client.call("command_queue", "POST", "", body)
    print(accepted["command_id"])
    note(f"{accepted['command_class']}, {accepted['target_count']} target(s), {accepted['state']}")
    if accepted["hold_reason"]:
        note(f"Held: {accepted['hold_reason']}")
    if arguments.wait:
        return _wait(client, accepted["command_id"], arguments.wait)
    return 0


def parameters(words: Sequence[str]) -> dict[str, Any]:
    """`name=text`, `name=@file` and `name:=json` as one object."""
    found: dict[str, Any] = {}
    for word in words:
        name, given, value = word.partition("=")
        if not given or not name.rstrip(":"):
            raise CliError(f"write a parameter as NAME=VALUE, not {word}")
        found[name.removesuffix(":")] = _value(value, as_json=name.endswith(":"))
    return found


def _value(value: str, *, as_json: bool) -> Any:
    try:
        if as_json:
            return json.loads(value)
        if value.startswith("@"):
            return base64.b64encode(Path(value[1:]).read_bytes()).decode()
    except ValueError as error:
        raise CliError(f"{value} is no JSON: {error}") from None
    except OSError as error:
        raise CliError(f"cannot read {value[1:]}: {error.strerror}") from None
    return value


def _wait(client: Client, command_id: str, seconds: float) -> int:
    """Follow a command until no target is open; 1 when one did not do it, or time is over."""
    deadline = time.monotonic() + seconds
    while True:
        progress = client.call("command_queue", "GET", f"/{command_id}")["progress"]
        ended = progress and set(progress) <= DONE | NOT_DONE
        if ended or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    fields(progress)
    return 0 if ended and set(progress) <= DONE else 1


def run_list(arguments: argparse.Namespace) -> int:
    client = Client()
    query = {"kind": arguments.kind, "state": arguments.state}
    rows = (
        (
            command["command_id"],
            " ".join(filter(None, [command["kind"], command["section"]])),
            command["command_class"],
            progressed(command),
            ago(command["created_at"]),
            command["actor"],
            command["hold_reason"] or command["end_reason"] or command["reason"],
        )
        for command in _listed(client, query, arguments.most)
    )
    head = ("command id", "kind", "class", "state", "asked", "by", "reason")
    table(head, rows, empty=_NO_MATCH if any(query.values()) else _NO_COMMAND)
    return 0


def _listed(client: Client, query: dict[str, Any], most: int) -> Iterator[dict[str, Any]]:
    """Commands with their progress, which the list itself does not hold."""
    commands = list(client.pages("command_queue", "", query, most=most))
    for start in range(0, len(commands), _ASKED_AT_ONCE):
        some = commands[start : start + _ASKED_AT_ONCE]
        whole = client.several("command_queue", [f"/{each['command_id']}" for each in some])
        yield from (full or each for each, full in zip(some, whole, strict=True))


def progressed(command: dict[str, Any]) -> str:
    """What became of a command: `done 20/20`, `3 of 20 open, 1 failed`, or why it does not run."""
    progress, total = command.get("progress", {}), command["target_count"]
    if command["state"] in {"held", "cancelled", "expired"}:
        return f"{command['state']}, {total} target(s)"
    done = sum(progress.get(state, 0) for state in DONE)
    bad = {state: count for state, count in sorted(progress.items()) if state in NOT_DONE}
    still = total - done - sum(bad.values())
    said = [f"{still} of {total} open" if still > 0 else f"done {done}/{total}"]
    if unqueued := progress.get("unexpanded", 0):
        said.append(f"{unqueued} not queued yet")
    return ", ".join([*said, *(f"{count} {state}" for state, count in bad.items())])


def run_show(arguments: argparse.Namespace) -> int:
    client = Client()
    command = client.call("command_queue", "GET", f"/{arguments.command_id}")
    progress = command.pop("progress")
    counted = ", ".join(f"{count} {state}" for state, count in sorted(progress.items()))
    fields({**command, "state": progressed({**command, "progress": progress}), "targets": counted})
    print()
    path = f"/{arguments.command_id}/targets"
    targets = list(client.pages("command_queue", path, most=arguments.most))
    reported = of_devices(client, "inventory", {target["device_id"] for target in targets})
    table(
        ("device", "serial", "state", "sent", "finished", "deliveries", "reason", "device id"),
        (
            (
                reported.get(target["device_id"], {}).get("name"),
                reported.get(target["device_id"], {}).get("serial"),
                target["state"],
                ago(target["sent_at"]),
                ago(target["finished_at"]),
                target["deliveries"],
                _why(target),
                target["device_id"],
            )
            for target in targets
        ),
        empty="No target is in a queue yet: targets are queued within a second or two.",
    )
    if arguments.answers:
        for target in targets:
            print(f"\n{target['device_id']}")
            print(_answer(target["answer"]))
    return 0


def _answer(answer: Any) -> str:
    if answer is None:
        return "(no answer, or none that says more than the state)"
    return json.dumps(answer, indent=1, ensure_ascii=True)


def _why(row: dict[str, Any]) -> str | None:
    errors = [text(error.get("message") or error.get("code")) for error in row["errors"] or []]
    return "; ".join([*filter(None, [row["reason"]]), *errors]) or None


def run_queue(arguments: argparse.Namespace) -> int:
    client = Client()
    device_id = resolve(client, arguments.device)
    found = client.call("command_queue", "GET", f"/devices/{device_id}")
    seen = found["last_seen_at"]
    note(f"Last seen {ago(seen)}." if seen else "It has not connected yet.")
    head = ("command id", "kind", "state", "queued", "finished", "deliveries", "reason")
    waiting = [(row, None) for row in found["queue"]]
    done = [(row, row["finished_at"]) for row in found["items"]]
    rows = (
        (
            row["command_id"],
            row["kind"] or "(forgotten)",
            row["state"],
            ago(row["queued_at"]),
            ago(finished),
            row["deliveries"],
            _why(row) if finished else None,
        )
        for row, finished in waiting + done
    )
    table(head, rows, empty="Nothing waits for it, and nothing was done.")
    return 0


def run_cancel(arguments: argparse.Namespace) -> int:
    path = f"/{arguments.command_id}/cancel"
    answer = Client().call("command_queue", "POST", path, {"reason": arguments.reason})
    print("cancelled" if answer["cancelled"] else "it had ended before")
    return 0
