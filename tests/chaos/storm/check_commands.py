"""Each target of each command has one outcome, and that has a cause that the devices know of."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from random import Random

from tests.chaos.storm.ledger import NEVER, Asked, Book, Leaving, Ledger, last_answers
from tests.chaos.storm.report import Report
from tests.chaos.storm.stage import Stage

OUTCOMES = """
SELECT command_id::text, device_id::text, state, reason, deliveries FROM outcome
"""
COMMANDS = """
SELECT command_id::text, target_count FROM any_command
"""
LEFT_OVER = """
SELECT command_id::text, device_id::text, state FROM pending
UNION ALL SELECT command_id::text, device_id::text, 'waiting' FROM waiting
UNION ALL SELECT command_id::text, NULL, 'not expanded' FROM target
"""
_SAMPLE = 5


@dataclass(frozen=True)
class Outcome:
    command_id: str
    device_id: str
    state: str
    reason: str | None
    deliveries: int


async def outcomes_of(stage: Stage) -> list[Outcome]:
    return [Outcome(**dict(row)) for row in await stage.query("command_queue", OUTCOMES)]


async def check(stage: Stage, ledger: Ledger, report: Report, chance: Random) -> None:
    """Outcomes against what was asked for and what the devices saw; counters against recounts."""
    outcomes = await outcomes_of(stage)
    commands = await stage.query("command_queue", COMMANDS)
    for row in await stage.query("command_queue", LEFT_OVER):
        ledger.violated(f"open at the end: {dict(row)}")
    found = Counter((one.command_id, one.device_id) for one in outcomes)
    for target, times in found.items():
        if times != 1:
            ledger.violated(f"{target} has {times} outcomes")
    of_command: dict[str, set[str]] = defaultdict(set)
    for command_id, device_id in found:
        of_command[command_id].add(device_id)
    _promised(ledger, {row["command_id"] for row in commands}, of_command)
    for row in commands:
        counted = len(of_command[row["command_id"]])
        if counted != row["target_count"]:
            ledger.violated(f"{row['command_id']}: {counted} of {row['target_count']} outcomes")
    books = ledger.by_device()
    for outcome in outcomes:
        _explain(ledger, outcome, books.get(outcome.device_id, Book()))
    _answers_kept(ledger, outcomes, books)
    report.checked["commands"] = len(commands)
    report.checked["outcomes"] = len(outcomes)
    report.checked["progress counts"] += await _progress(stage, ledger, outcomes, chance)


def _promised(ledger: Ledger, stored: set[str], of_command: dict[str, set[str]]) -> None:
    """What was answered 202 is there, with the targets that were named."""
    for command_id, asked in ledger.commands.items():
        if command_id not in stored:
            ledger.violated(f"{command_id} was accepted ({asked.key}) and is gone")
        elif of_command[command_id] != asked.devices:
            odd = of_command[command_id] ^ asked.devices
            ledger.violated(f"{command_id} has other targets than were asked for: {odd}")


def _explain(ledger: Ledger, outcome: Outcome, book: Book) -> None:
    asked = ledger.commands.get(outcome.command_id)
    why = _unexplained(outcome, asked, book)
    if why:
        ledger.violated(f"{outcome.command_id} for {outcome.device_id} is {outcome.state}: {why}")
    seen = book.given[outcome.command_id]
    if outcome.deliveries < seen:
        ledger.violated(
            f"{outcome.command_id} was handed to {outcome.device_id} {seen} times, "
            f"and {outcome.deliveries} are written down"
        )


def _unexplained(outcome: Outcome, asked: Asked | None, book: Book) -> str | None:
    """What is odd about an outcome; None: it has its cause."""
    said = {one.status for one in book.said if one.command_id == outcome.command_id}
    left = any(_explains(one, outcome, asked) for one in book.leavings)
    cancelled = asked is not None and asked.cancel_began < NEVER
    brief = asked is not None and asked.expires <= 60
    match outcome.state:
        case "acknowledged":
            fine, why = "Acknowledged" in said, "the device never said so"
        case "failed":
            fine = bool(said & {"Error", "CommandFormatError"}) or outcome.deliveries == 0
            why = f"the device reported no error ({outcome.reason})"
        case "cancelled":
            fine = left or cancelled
            why = f"nobody cancelled it, and the device never left ({outcome.reason})"
        case "unconfirmed":
            fine = (left or cancelled or brief) and outcome.deliveries > 0
            why = "the device never left, nobody cancelled it, and its time was not over"
        case "expired":
            fine, why = brief, "its time was not over"
        case _:
            fine, why = False, "no such state"
    return None if fine else why


def _explains(leaving: Leaving, outcome: Outcome, asked: Asked | None) -> bool:
    """Whether work ended because its device left: meanwhile, or before, and the event was late."""
    late = leaving.what in {"check-out", "erase"} and "enrollment" in (outcome.reason or "")
    return late or asked is None or leaving.ended > asked.began


def _answers_kept(ledger: Ledger, outcomes: list[Outcome], books: dict[str, Book]) -> None:
    """What a device said and got its 200 for is the outcome."""
    state = {(one.command_id, one.device_id): one.state for one in outcomes}
    for device_id, book in books.items():
        for command_id, said in last_answers(book).items():
            final = next((one for one in said if one.is_final and one.delivered < NEVER), None)
            found = state.get((command_id, device_id))
            wanted = "acknowledged" if final and final.status == "Acknowledged" else "failed"
            if final and found != wanted:
                ledger.violated(
                    f"{device_id} said {final.status} to {command_id} and got its 200, "
                    f"but the outcome is {found}"
                )


async def _progress(stage: Stage, ledger: Ledger, outcomes: list[Outcome], chance: Random) -> int:
    """What the API counts for some commands, against a recount."""
    some = chance.sample(sorted(ledger.commands), min(_SAMPLE, len(ledger.commands)))
    for command_id in some:
        path = f"/api/v1/commands/{command_id}"
        async with stage.session() as session:
            shown = await stage.call(session, "command_queue", "GET", path)
        counted = Counter(one.state for one in outcomes if one.command_id == command_id)
        if {name: n for name, n in shown["progress"].items() if n} != dict(counted):
            ledger.violated(f"{command_id} counts {shown['progress']}, recounted {dict(counted)}")
    return len(some)
