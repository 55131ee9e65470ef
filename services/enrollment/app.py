"""enrollment, wired."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.enrollment.arrivals import Arrivals
from services.enrollment.authorities import Authorities
from services.enrollment.checkins import CheckIns
from services.enrollment.consumers import handlers
from services.enrollment.credentials import Credentials
from services.enrollment.directory import Directory
from services.enrollment.escrow import Escrow
from services.enrollment.handouts import Handouts
from services.enrollment.housekeeping import Housekeeping
from services.enrollment.http import api, certificates, devices, imports, serials
from services.enrollment.http import lobby as lobby_api
from services.enrollment.identity import Identities
from services.enrollment.imports import Imports
from services.enrollment.issuing import Issuing
from services.enrollment.jobs import jobs
from services.enrollment.leaving import Departures
from services.enrollment.lobby import Lobby
from services.enrollment.opening import Sealer
from services.enrollment.ownership import Ownerships
from services.enrollment.quarantine import Quarantine
from services.enrollment.refusals import Refusals
from services.enrollment.retelling import Retelling
from services.enrollment.revocations import Revocations
from services.enrollment.serials import Serials
from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store.encrypted import ENCRYPTED
from services.enrollment.withdrawing import Withdrawals
from shared.bus.ending import ended
from shared.runtime.jobs import Wake
from shared.runtime.service import Context, Parts, Service


@asynccontextmanager
async def build(context: Context[EnrollmentSettings]) -> AsyncIterator[Parts]:
    settings, pool, clock = context.settings, context.pool, context.clock
    road = context.road
    departed = Wake()
    authorities = Authorities(pool, context.cipher, settings, clock)
    await authorities.refresh()
    refusals = Refusals(pool, clock)
    revocations = Revocations(pool, authorities, settings, clock)
    await revocations.sign_due()
    departures = Departures(road, context.internal, clock)
    ownerships = Ownerships(pool, settings, clock)
    lobby = Lobby(pool, Quarantine(pool, context.internal, clock), clock, departed)
    async with (
        _kept_fresh(authorities),
        _check_ins(context, refusals, departed) as check_ins,
    ):
        yield Parts(
            values={
                devices.CHECK_INS: check_ins,
                devices.HANDOUTS: Handouts(road, authorities, refusals, settings, clock),
                devices.ISSUING: Issuing(road, authorities, refusals, settings, clock),
                devices.AUTHORITIES: authorities,
                devices.REVOCATIONS: revocations,
                api.CREDENTIALS: Credentials(pool, settings, clock),
                api.DIRECTORY: Directory(pool, departures, ownerships, clock),
                api.LOBBY: lobby,
                certificates.WITHDRAWALS: Withdrawals(pool, context.internal, clock),
                serials.SERIALS: Serials(pool, clock),
                imports.IMPORTS: Imports(road, context.cipher, context.sealing, authorities, clock),
            },
            handlers=handlers(clock, departed),
            jobs=jobs(
                settings,
                departures,
                revocations,
                Housekeeping(pool, settings, clock),
                lobby,
                ownerships,
                Retelling(road, settings, clock),
                departed,
            ),
        )


@asynccontextmanager
async def _kept_fresh(authorities: Authorities) -> AsyncIterator[None]:
    task = asyncio.create_task(authorities.keep_fresh(), name="authority")
    try:
        yield
    finally:
        await ended({task})


@asynccontextmanager
async def _check_ins(
    context: Context[EnrollmentSettings], refusals: Refusals, departed: Wake
) -> AsyncIterator[CheckIns]:
    """The parts that gather requests into batches; what they hold is written before they end."""
    pool, clock = context.road, context.clock
    identities = Identities(pool, context.settings, clock)
    arrivals = Arrivals(pool, context.internal, context.settings, clock)
    try:
        yield CheckIns(
            pool,
            context.internal,
            clock,
            identities=identities,
            arrivals=arrivals,
            sealer=Sealer(context.cipher, context.sealing),
            escrow=Escrow(pool, context.cipher),
            refusals=refusals,
            departed=departed,
            uncounted=context.settings.lobby_uncounted,
        )
    finally:
        await identities.close()
        await arrivals.close()


SERVICE = Service(
    name="enrollment",
    summary="Who is managed: credentials, certificates, check-ins, device identity",
    settings=EnrollmentSettings,
    build=build,
    encrypted=ENCRYPTED,
    routes=(
        *devices.ROUTES,
        *api.ROUTES,
        *certificates.ROUTES,
        *lobby_api.ROUTES,
        *serials.ROUTES,
        *imports.ROUTES,
    ),
)
