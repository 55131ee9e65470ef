"""Events: each told once by its id, in order, and with one effect in everybody who listens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from shared.events import Event, commands, device_state, devices, inventory, pushes
from shared.events.audit import AuditRecorded
from shared.events.registry import TOPICS
from tests.chaos.storm.check_commands import COMMANDS, outcomes_of
from tests.chaos.storm.ledger import Ledger
from tests.chaos.storm.report import Report
from tests.chaos.storm.stage import Stage
from tests.chaos.storm.wire import Travelled, Wire

FINISHED = commands.CommandFinished.TYPE
# Of each service's consumers.py, without compacted topics: those need no inbox.
LISTENS: dict[str, list[type[Event]]] = {
    "enrollment": [commands.CommandFinished, commands.DeviceSeen],
    "command_queue": [commands.CommandRequested],
    "push_notifier": [
        commands.CommandQueued,
        commands.CommandDeferred,
        commands.CommandFinished,
    ],
    "inventory": [
        devices.DeviceEnrolled,
        devices.DeviceUnenrolled,
        commands.DeviceSeen,
        commands.CommandAnswerPart,
        commands.CommandFinished,
    ],
    "compliance": [
        commands.DeviceSeen,
        inventory.FactsChanged,
        inventory.ApplicationsChanged,
        inventory.SectionReported,
    ],
    "console": [AuditRecorded],
}
COMPACTED = {
    device_state.DeviceState.TYPE,
    device_state.AuthorityPublished.TYPE,
    pushes.PushCertificateChanged.TYPE,
}
COMPACTED_TOPICS = [name for name, topic in TOPICS.items() if topic.compacted]


async def check(stage: Stage, wire: Wire, ledger: Ledger, report: Report) -> None:
    for wrong in wire.out_of_order():
        ledger.violated(f"out of order: {wrong}")
    for topic in COMPACTED_TOPICS:
        for key in wire.outlived(topic):
            ledger.violated(f"compaction of {topic} will keep an old state of {key}")
    await _finished_once(stage, wire, ledger)
    await _told_of_every_command(stage, wire, ledger)
    for service, models in LISTENS.items():
        wanted = wire.of_type(*(model.TYPE for model in models))
        report.checked[f"effects in {service}"] = len(wanted)
        await _all_in_inbox(stage, service, wanted, ledger)
    _no_effect_twice(wire.all(), ledger)
    await _audit(stage, wire, ledger)
    report.checked["records on topics"] = sum(1 for _ in wire.all())
    report.checked["events"] = len({record.event_id for record in wire.all()})


async def _finished_once(stage: Stage, wire: Wire, ledger: Ledger) -> None:
    """Outcomes and finished events are one to one, and say the same."""
    told: dict[tuple[str, str], list[Travelled]] = defaultdict(list)
    for event in wire.of_type(FINISHED).values():
        told[event.body["command_id"], event.body["device_id"]].append(event)
    outcomes = {(o.command_id, o.device_id): o for o in await outcomes_of(stage)}
    for target in outcomes.keys() - told.keys():
        ledger.violated(f"{target} is {outcomes[target].state}, and no event tells of it")
    for target in told.keys() - outcomes.keys():
        ledger.violated(f"an event says that {target} has ended, but it has no outcome")
    for target, events in told.items():
        if len(events) != 1:
            ledger.violated(f"{len(events)} finished events for {target}: {_ids(events)}")
        outcome = outcomes.get(target)
        if outcome and events[0].body["state"] != outcome.state:
            ledger.violated(f"{target} is {outcome.state}, told as {events[0].body['state']}")


async def _told_of_every_command(stage: Stage, wire: Wire, ledger: Ledger) -> None:
    """Each command was told of, and what services asked for became one command each."""
    rows = await stage.query("command_queue", COMMANDS)
    keys = await stage.query("command_queue", "SELECT actor, idempotency_key FROM request_key")
    created = [event.key for event in wire.of_type(commands.CommandCreated.TYPE).values()]
    stored = {row["command_id"] for row in rows}
    if odd := stored ^ set(created):
        ledger.violated(f"commands that were told of and stored differ: {sorted(odd)[:5]}")
    if len(created) != len(set(created)):
        ledger.violated("a command was told of as created twice")
    known = {(row["actor"], row["idempotency_key"]) for row in keys}
    for event in wire.of_type(commands.CommandRequested.TYPE).values():
        if (event.body["actor"], event.body["idempotency_key"]) not in known:
            ledger.violated(f"{event.event_id} asked for a command, and there is none")


async def _all_in_inbox(
    stage: Stage, service: str, wanted: dict[str, Travelled], ledger: Ledger
) -> None:
    rows = await stage.query(service, "SELECT event_id::text AS id FROM inbox")
    there = {row["id"] for row in rows}
    for event_id in wanted.keys() - there:
        event = wanted[event_id]
        ledger.violated(f"{service} never took {event.type} {event_id} about {event.key}")


def _no_effect_twice(records: Iterable[Travelled], ledger: Ledger) -> None:
    """What one event led to in one service, it led to once: the same words under two ids are two
    effects.
    """
    told: dict[tuple[str | None, ...], dict[str, Travelled]] = defaultdict(dict)
    for record in records:
        if record.cause is not None and record.type not in COMPACTED:
            about = (record.source, record.cause, record.type, record.key, record.digest)
            told[about][record.event_id] = record
    for (source, cause, kind, *_), events in told.items():
        if len(events) > 1:
            ledger.violated(f"{cause} had an effect twice in {source}: {kind} {sorted(events)}")


async def _audit(stage: Stage, wire: Wire, ledger: Ledger) -> None:
    rows = await stage.query("console", "SELECT event_id::text AS id FROM audit")
    told = set(wire.of_type(AuditRecorded.TYPE))
    if odd := told ^ {row["id"] for row in rows}:
        ledger.violated(f"the audit and its events differ: {sorted(odd)[:5]}")


def _ids(events: Iterable[Travelled]) -> list[str]:
    return sorted(event.event_id for event in events)
