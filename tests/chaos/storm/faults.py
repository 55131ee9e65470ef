"""What can go wrong, one function a kind: strike, hold, heal.

A fault holds its victims for itself, so that two faults never mend each other's damage too early;
everything it draws by chance was drawn before, with the schedule.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from shared.bus.kafka import group_of, stop
from shared.events.registry import SERVICES, TOPICS
from tests.chaos.storm.proxy import Direction
from tests.chaos.storm.stage import SECONDS, Stage
from tools.embedded.apns import Rule

POSTGRES, KAFKA = "postgres", "kafka"
_REPEATED = 60
_REWOUND = 200


@dataclass(frozen=True)
class Fault:
    """One fault of a schedule. `seconds`: how long it lasts; `chance`: what else it draws."""

    number: int
    kind: str
    victim: str
    seconds: float
    gap: float
    """Until the next one begins."""
    chance: int

    def __str__(self) -> str:
        return f"{self.kind} {self.victim} {self.seconds:.1f} s"


Strike = Callable[[Stage, Fault], Awaitable[None]]


@dataclass(frozen=True)
class Kind:
    """How often a kind comes, whom it may hit, how long it may last, and what it does."""

    weight: int
    victims: Sequence[str]
    seconds: tuple[float, float]
    strike: Strike
    about: str


async def _end_service(stage: Stage, fault: Fault, number: signal.Signals) -> None:
    await stage.kill(fault.victim, number)
    await asyncio.sleep(fault.seconds)
    await stage.launch(fault.victim)


async def kill_service(stage: Stage, fault: Fault) -> None:
    await _end_service(stage, fault, signal.SIGKILL)


async def kill_at_commit(stage: Stage, fault: Fault) -> None:
    """The process dies at the worst of moments: its COMMIT is under way and never arrives, or it
    did and nobody hears of it.
    """
    link = stage.links[f"{fault.victim}→{POSTGRES}"]
    await link.at_commit(5.0, arrives=fault.chance % 3 == 0)
    await asyncio.sleep(fault.seconds)
    link.cut()
    await stage.kill(fault.victim)
    link.heal()
    await stage.launch(fault.victim)


async def stop_service(stage: Stage, fault: Fault) -> None:
    await _end_service(stage, fault, signal.SIGTERM)


async def scale(stage: Stage, fault: Fault) -> None:
    """A second process takes its share of partitions and shards, and is killed."""
    await stage.launch(fault.victim)
    await asyncio.sleep(3 + fault.seconds)
    await stage.kill(fault.victim, signal.SIGKILL if fault.chance % 2 else signal.SIGTERM)


async def undead(stage: Stage, fault: Fault) -> None:
    """A process hangs for so long that a second one takes over all it had, and then goes on."""
    first = SECONDS[fault.victim]
    await stage.launch(fault.victim)
    await asyncio.sleep(4)
    pids = stage.pause(first)
    try:
        await _end_sessions(stage, first)
        await asyncio.sleep(7 + fault.seconds)  # longer than its membership in the group lasts
    finally:
        stage.resume(pids)
    await asyncio.sleep(2)
    await stage.kill(fault.victim, signal.SIGKILL if fault.chance % 2 else signal.SIGTERM)


async def pause(stage: Stage, fault: Fault) -> None:
    pids = stage.pause(fault.victim)
    await asyncio.sleep(fault.seconds)
    stage.resume(pids)


async def kill_broker(stage: Stage, fault: Fault) -> None:
    await stage.embedded.kill_kafka()
    await asyncio.sleep(fault.seconds)
    await stage.embedded.start_kafka()


async def stop_broker(stage: Stage, fault: Fault) -> None:
    await stage.embedded.stop_kafka()
    await asyncio.sleep(fault.seconds)
    await stage.embedded.start_kafka()


async def crash_postgres(stage: Stage, fault: Fault) -> None:
    await stage.embedded.crash_postgres()
    await asyncio.sleep(fault.seconds)
    await stage.embedded.start_postgres()


async def restart_postgres(stage: Stage, _: Fault) -> None:
    await stage.embedded.restart_postgres()


async def end_sessions(stage: Stage, fault: Fault) -> None:
    """Connections of one service are ended by the server, in the middle of whatever they do."""
    await _end_sessions(stage, fault.victim)


async def _end_sessions(stage: Stage, service: str) -> None:
    connection = await asyncpg.connect(stage.running.postgres_admin, timeout=20)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1",
            f"muster_{service}",
        )
    finally:
        await connection.close()


async def cut(stage: Stage, fault: Fault) -> None:
    """Connections are reset, and new ones refused for a while."""
    link = stage.links[fault.victim]
    link.refuses = True
    link.cut()
    await asyncio.sleep(fault.seconds)
    link.heal()


async def slow(stage: Stage, fault: Fault) -> None:
    link = stage.links[fault.victim]
    link.delay = 0.05 + fault.chance % 200 / 1000
    await asyncio.sleep(fault.seconds)
    link.heal()


async def swallow(stage: Stage, fault: Fault) -> None:
    """Nothing comes through; at the end it does, or everything under way is lost."""
    link = stage.links[fault.victim]
    direction: Direction = "from" if fault.chance % 3 else "to"
    link.silence(direction)
    await asyncio.sleep(fault.seconds)
    if fault.chance % 2:
        link.cut()
    link.heal()


async def move_clock(stage: Stage, fault: Fault) -> None:
    stage.dials[fault.victim].turn(fault.chance % 160 - 80)
    await asyncio.sleep(fault.seconds)
    stage.dials[fault.victim].turn(0)


async def repeat(stage: Stage, fault: Fault) -> None:
    """The newest records of a topic once more, as a relay does that crashed before it deleted."""
    consumer, producer = stage.broker().consumer(None), stage.broker().producer()
    try:
        await consumer.start()
        await producer.start()
        await consumer._client.force_metadata_update()
        numbers = consumer._client.cluster.partitions_for_topic(fault.victim) or ()
        places = [TopicPartition(fault.victim, number) for number in numbers]
        consumer.assign(places)
        for place, end in (await consumer.end_offsets(places)).items():
            consumer.seek(place, max(0, end - _REPEATED))
            if not end:
                continue
            found = await consumer.getmany(place, timeout_ms=2000, max_records=_REPEATED)
            for record in found.get(place, ()):
                await producer.send_and_wait(
                    record.topic, record.value, record.key, record.partition, record.timestamp,
                    list(record.headers),
                )  # fmt: skip
    finally:
        await stop(consumer)
        await stop(producer)


async def rewind(stage: Stage, fault: Fault) -> None:
    """A service forgets how far it had come, and hears everything again."""
    await stage.kill(fault.victim, signal.SIGTERM)
    try:
        await _move_back(stage, fault.victim)
    finally:
        await stage.launch(fault.victim)


async def _move_back(stage: Stage, service: str) -> None:
    admin = stage.broker().admin()
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group_of(service))
    finally:
        await admin.close()
    consumer: AIOKafkaConsumer = stage.broker().consumer(group_of(service))
    consumer.assign(list(offsets))
    await consumer.start()
    try:
        back = {place: max(0, at.offset - _REWOUND) for place, at in offsets.items()}
        if back:
            await consumer.commit(back)
    finally:
        await stop(consumer)


async def rebalance(stage: Stage, fault: Fault) -> None:
    """A stranger joins a service's group, takes partitions, does nothing, and leaves."""
    topics = [name for name in TOPICS if ".audit." not in name and ".dead-letter." not in name]
    consumer: AIOKafkaConsumer = stage.broker().consumer(group_of(fault.victim))
    consumer.subscribe(topics)
    try:
        async with asyncio.timeout(30):
            await consumer.start()
            await asyncio.sleep(fault.seconds)
    except TimeoutError:
        pass
    finally:
        await stop(consumer)


async def lose_apns(stage: Stage, fault: Fault) -> None:
    """Apple's push service refuses, hangs up, or is silent."""
    rules = [
        Rule(status=503, reason="ServiceUnavailable"),
        Rule(status=429, reason="TooManyRequests"),
        Rule(goaway=True),
        Rule(drop=True),
    ]
    stage.apns.rules.append(rules[fault.chance % len(rules)])
    await asyncio.sleep(fault.seconds)
    stage.apns.rules.clear()


_LINKS = [f"{service}→{server}" for service in SERVICES for server in (POSTGRES, KAFKA)]
_BUSY_LINKS = [
    "command_queue→postgres",
    "command_queue→kafka",
    "enrollment→postgres",
    "enrollment→command_queue",
    "inventory→postgres",
    "push_notifier→postgres",
]
_WAYS = [*_LINKS, *_BUSY_LINKS, *_BUSY_LINKS]
_VICTIMS = [*SERVICES, "command_queue", "command_queue", "enrollment", "inventory"]
_COMMITTERS = [*(["command_queue"] * 5), "enrollment", "inventory", "push_notifier", "compliance"]
_STREAMS = [
    "muster.command.v1",
    "muster.command-work.v1",
    "muster.device.v1",
    "muster.inventory.v1",
    "muster.command-request.inventory.v1",
]
_RAISED = (KafkaError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
STRUCK_NOTHING = _RAISED
"""What a fault may raise that met a server which was away: it counts as not having happened."""

KINDS: dict[str, Kind] = {
    "kill service": Kind(20, _VICTIMS, (0, 2), kill_service, "kill -9, started again"),
    "kill at commit": Kind(16, _COMMITTERS, (0.05, 0.5), kill_at_commit, "kill -9 amid a COMMIT"),
    "stop service": Kind(6, _VICTIMS, (0, 1), stop_service, "SIGTERM, started again"),
    "second process": Kind(5, [*SECONDS], (0, 4), scale, "it shares the work, then is killed"),
    "undead": Kind(5, [*SECONDS], (0, 3), undead, "SIGSTOP, another takes over, SIGCONT"),
    "pause service": Kind(8, _VICTIMS, (1, 8), pause, "SIGSTOP, SIGCONT"),
    "kill broker": Kind(4, [KAFKA], (0, 3), kill_broker, "kill -9, started again"),
    "stop broker": Kind(2, [KAFKA], (0, 2), stop_broker, "SIGTERM, started again"),
    "pause broker": Kind(4, [KAFKA], (1, 8), pause, "SIGSTOP, SIGCONT"),
    "crash database": Kind(5, [POSTGRES], (0, 2), crash_postgres, "immediate stop, started again"),
    "restart database": Kind(3, [POSTGRES], (0, 0), restart_postgres, "fast stop, started again"),
    "pause database": Kind(4, [POSTGRES], (1, 6), pause, "SIGSTOP, SIGCONT of all its processes"),
    "end sessions": Kind(8, _VICTIMS, (0, 0), end_sessions, "pg_terminate_backend of a service"),
    "cut": Kind(10, _WAYS, (0, 4), cut, "connections reset, new ones refused"),
    "slow": Kind(8, _WAYS, (2, 6), slow, "50 to 250 ms a packet"),
    "swallow": Kind(10, _WAYS, (1, 12), swallow, "one direction is silent, then flows or is cut"),
    "move clock": Kind(6, SERVICES, (3, 10), move_clock, "up to 80 s wrong, then right again"),
    "repeat": Kind(8, _STREAMS, (0, 0), repeat, "the newest records of a topic once more"),
    "rewind": Kind(5, _VICTIMS, (0, 0), rewind, "a group's offsets set back"),
    "rebalance": Kind(5, _VICTIMS, (1, 5), rebalance, "a stranger joins the group and leaves"),
    "apns": Kind(3, ["apns"], (2, 6), lose_apns, "pushes refused, reset or unanswered"),
}


def schedule(seed: int, count: int, only: Sequence[str] = ()) -> list[Fault]:
    """The faults of a seed: the same in every run. `only`: of these kinds."""
    chance = Random(seed)
    names = [name for name in KINDS if not only or name in only]
    weights = [KINDS[name].weight for name in names]
    found = []
    for number in range(1, count + 1):
        name = chance.choices(names, weights)[0]
        kind = KINDS[name]
        victim, seconds = chance.choice(kind.victims), chance.uniform(*kind.seconds)
        gap = chance.uniform(0.3, 3.0)
        found.append(Fault(number, name, victim, seconds, gap, chance.getrandbits(16)))
    return found


def victims_of(fault: Fault) -> tuple[str, ...]:
    """What a fault needs for itself: a service's process, a server, a way."""
    needs = {fault.victim}
    match fault.kind:
        case "rewind":
            needs |= {KAFKA, *(name for name, of in SECONDS.items() if of == fault.victim)}
        case "undead":
            needs |= {SECONDS[fault.victim], POSTGRES}
        case "kill at commit":
            needs |= {f"{fault.victim}→{POSTGRES}"}
        case "repeat" | "rebalance":
            needs = {KAFKA}
        case "end sessions":
            needs = {POSTGRES}
        case _:
            pass
    return tuple(sorted(needs))
