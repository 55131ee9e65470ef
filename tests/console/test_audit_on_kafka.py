"""The chains on a real broker: consumers come and go, events are told again, and nothing forks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from services.console.app import SERVICE
from services.console.audit import chaining
from services.console.audit.verifying import verify
from shared.bus import Handlers
from shared.bus.kafka import KafkaAccess
from shared.bus.runner import Runner
from shared.bus.testing import travelled
from shared.events.audit import AuditRecorded
from shared.runtime.testing import Trial, trial
from tests.bus.small import Publisher, running, until
from tests.console.auditing import did
from tools.embedded import topics
from tools.embedded.testing import MakeDatabase

TOPIC = "muster.audit.compliance.v1"
HANDLERS: Handlers = {AuditRecorded: chaining.record}


@pytest.fixture
async def kafka(kafka_bootstrap: str) -> KafkaAccess:
    await topics.provision(topics.Login(kafka_bootstrap), topics.declared(), {})
    return KafkaAccess(bootstrap=kafka_bootstrap, heartbeat_ms=500)


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    async with trial(SERVICE, await make_database("console"), tmp_path) as running_:
        yield running_


async def test_consumers_that_come_and_go_make_one_chain_a_partition(
    service: Trial, kafka: KafkaAccess
) -> None:
    pool, group, told = service.context.road, f"audit-{uuid4()}", []
    publisher = Publisher(kafka)
    await publisher.start()

    async def tell(count: int) -> None:
        """Every tenth is told twice, as a relay does that was killed before it could forget it."""
        for number in range(count):
            [event] = travelled(did("a.b", target=f"t{number % 17}"), service="compliance")
            told.append(event.meta.event_id)
            await publisher.send(event, *[event] * (number % 10 == 0), topic=TOPIC)

    async def all_there() -> bool:
        known = "SELECT count(DISTINCT event_id) FROM audit WHERE event_id = ANY($1::uuid[])"
        return int(await pool.fetchval(known, told)) == len(told)

    def consumer() -> Runner:
        return Runner("console", pool, kafka, HANDLERS, group=group)

    async with AsyncExitStack() as first, AsyncExitStack() as second:
        await first.enter_async_context(running(consumer()))
        await tell(60)
        await second.enter_async_context(running(consumer()))
        await tell(60)
        await first.aclose()
        await tell(60)
        await until(all_there)
    await publisher.stop()
    await service.run_job("sign_audit_root")
    answer = await service.call("GET", "/api/v1/console/audit/export")
    report = verify(answer.body.splitlines())
    assert {key for key in report.chains if key[0] == TOPIC} == {(TOPIC, n) for n in range(3)}
    assert (report.late, report.roots, report.after) == (0, 1, 0)
    links = await pool.fetchval("SELECT count(*) FROM audit WHERE event_id = ANY($1::uuid[])", told)
    assert links == len(told)
