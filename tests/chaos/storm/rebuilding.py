"""The last trial of a storm: projections are emptied, and must come back from `device-state` as
they were.
"""

from __future__ import annotations

import asyncio
import signal

from tests.chaos.storm.stage import Stage

# What a projection consists of. Compliance's count of devices by state goes with its devices.
EMPTIED = {
    "command_queue": ["TRUNCATE device, enrollment, channel, pin"],
    "push_notifier": ["TRUNCATE device"],
    "inventory": ["TRUNCATE device"],
    "compliance": ["TRUNCATE device", "DELETE FROM tally WHERE policy_id = uuid_nil"],
    "configuration": ["TRUNCATE device"],
}
_NIL = "'00000000-0000-0000-0000-000000000000'"


async def empty_projections(stage: Stage) -> None:
    """Stop every service that has one, empty it, and start the service again."""
    await asyncio.gather(*(_empty(stage, service) for service in EMPTIED))
    await asyncio.gather(*(stage.until_ready(service) for service in EMPTIED))


async def _empty(stage: Stage, service: str) -> None:
    await stage.kill(service, signal.SIGTERM)
    for statement in EMPTIED[service]:
        await stage.query(service, statement.replace("uuid_nil", _NIL))
    await stage.launch(service)
