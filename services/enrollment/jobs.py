"""The timers of enrollment."""

from __future__ import annotations

from services.enrollment.housekeeping import Housekeeping
from services.enrollment.leaving import Departures
from services.enrollment.lobby import Lobby
from services.enrollment.ownership import Ownerships
from services.enrollment.retelling import Retelling
from services.enrollment.revocations import Revocations
from services.enrollment.settings import EnrollmentSettings
from shared.runtime.jobs import Job, Wake

_MINUTE = 60.0
_HOUR = 3_600.0


def jobs(
    settings: EnrollmentSettings,
    departures: Departures,
    revocations: Revocations,
    housekeeping: Housekeeping,
    lobby: Lobby,
    ownerships: Ownerships,
    retelling: Retelling,
    departed: Wake,
) -> list[Job]:
    return [
        Job("fences", settings.fence_every, departures.confirm_due, wake=departed),
        # Every process tells: the gauge of one that lost the job would stand still.
        Job("count fences", _MINUTE, departures.measure, single=False),
        Job("crl", settings.crl_check, revocations.sign_due),
        Job("forget", _HOUR, housekeeping.forget),
        Job("lobby", _MINUTE, lobby.expire_due),
        Job("count lobby", _MINUTE, lobby.measure, single=False),
        Job("ownership", _MINUTE, ownerships.carry_out),
        Job("retell", settings.retell_every, retelling.tell_next),
        Job("newcomers", settings.newcomers_every, retelling.tell_newcomers),
    ]
