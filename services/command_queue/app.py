"""command_queue, wired."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from services.command_queue.approvals import Approvals
from services.command_queue.budgets import Budgets
from services.command_queue.canaries import Canaries
from services.command_queue.charging import Charging
from services.command_queue.connect import Connect
from services.command_queue.consumers import handlers
from services.command_queue.control import Control
from services.command_queue.delivery import Delivery
from services.command_queue.escrow import Escrow
from services.command_queue.fencing import Fencing
from services.command_queue.http import (
    api,
    approvals,
    devices,
    escrow,
    freezes,
    guard,
    internal,
    powers,
)
from services.command_queue.identity import Identity
from services.command_queue.intake import Intake
from services.command_queue.jobs import approval_jobs, jobs
from services.command_queue.lifting import Lifting
from services.command_queue.powers import Powers
from services.command_queue.presence import Presence
from services.command_queue.reading import Reading
from services.command_queue.requests import Requests
from services.command_queue.settings import CommandQueueSettings
from services.command_queue.store.encrypted import ENCRYPTED
from services.command_queue.watch import Watch
from shared.runtime.jobs import Wake
from shared.runtime.service import Context, Parts, Service


@contextlib.asynccontextmanager
async def build(context: Context[CommandQueueSettings]) -> AsyncIterator[Parts]:
    settings, pool, clock = context.settings, context.pool, context.clock
    road = context.road
    expand, sweep, release = Wake(), Wake(), Wake()
    requests = Requests(context.cipher, settings)
    control = Control(pool, clock)
    budgets = Budgets(pool, clock, settings)
    deciding = Approvals(pool, clock, context.cipher, settings)
    young = Powers(pool, clock, settings)
    identity = Identity(road, clock, settings)
    delivery = Delivery(road, clock, context.cipher, context.sealing.keyring, settings)
    intake = Intake(road, clock, requests, expand)
    fencing = Fencing(road, clock, settings)
    presence = Presence(road, clock)
    seen = asyncio.create_task(presence.run(settings.seen_flush_seconds), name="presence")
    try:
        yield Parts(
            values={
                devices.CONNECT: Connect(road, identity, delivery, presence, settings.large_bodies),
                internal.FENCING: fencing,
                internal.CHARGING: Charging(pool, clock, settings),
                api.INTAKE: intake,
                api.CONTROL: control,
                api.READING: Reading(pool),
                api.SWEEP: sweep,
                escrow.ESCROW: Escrow(pool, clock, context.cipher, settings),
                api.BUDGETS: budgets,
                freezes.LIFTING: Lifting(pool, clock, settings),
                powers.POWERS: young,
                guard.WATCH: Watch(pool, clock, young, settings.new_power_waits),
                approvals.APPROVALS: deciding,
                approvals.RELEASE: release,
                approvals.EXPAND: expand,
                api.CANARIES: Canaries(pool, clock),
            },
            handlers=handlers(requests, clock, settings.new_power_waits),
            jobs=[
                *jobs(settings, pool, road, clock, budgets, expand, sweep),
                *approval_jobs(pool, clock, deciding, release),
            ],
        )
    finally:
        seen.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await seen
        await identity.close()
        await delivery.close()
        await intake.close()
        await fencing.close()


SERVICE = Service(
    name="command_queue",
    summary="Every command to a device, from request to proven outcome",
    settings=CommandQueueSettings,
    build=build,
    encrypted=ENCRYPTED,
    routes=[
        *devices.ROUTES,
        *approvals.ROUTES,
        *freezes.ROUTES,
        *powers.ROUTES,
        *guard.ROUTES,
        *escrow.ROUTES,
        *api.ROUTES,
        *internal.ROUTES,
    ],
)
