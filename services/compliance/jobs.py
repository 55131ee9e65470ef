"""Timers of compliance."""

from __future__ import annotations

from collections.abc import Sequence

from services.compliance.deadlines import Deadlines
from services.compliance.judging import Judge
from services.compliance.rollouts import Rollouts
from services.compliance.settings import ComplianceSettings
from shared.db.pool import Pool
from shared.runtime.clock import Clock
from shared.runtime.jobs import Job, Wake


def jobs(
    settings: ComplianceSettings, pool: Pool, clock: Clock, judge: Judge, changed: Wake
) -> Sequence[Job]:
    rollouts = Rollouts(pool, settings, clock, judge)
    deadlines = Deadlines(pool, settings, clock, judge)
    return (
        Job("rollouts", every=5, run=rollouts.run, wake=changed),
        Job("deadlines", every=15, run=deadlines.run),
    )
