"""What push_notifier does by itself."""

from __future__ import annotations

from datetime import timedelta

from services.push_notifier.certificates import Certificates
from services.push_notifier.sending import Sender
from services.push_notifier.settings import PushSettings
from services.push_notifier.stand_in import StandInPortal
from shared.db import partitions
from shared.db.pool import Pool
from shared.runtime.clock import Clock
from shared.runtime.jobs import Job, Wake


def jobs(
    settings: PushSettings,
    pool: Pool,
    clock: Clock,
    certificates: Certificates,
    sender: Sender,
    due: Wake,
) -> list[Job]:
    async def care_for_history() -> None:
        await partitions.make_ahead(pool, "attempt")
        oldest = clock.now() - timedelta(days=settings.attempt_days)
        await partitions.drop_old(pool, "attempt", oldest)

    found = [
        # Claims skip what another process holds: every process may send.
        Job("send", 0.5, sender.run, single=False, wake=due),
        # Every process tells: the gauge of one that sends nothing would stand still.
        Job("count open circuits", 60, sender.measure, single=False),
        Job("watch certificate expiry", 300, certificates.watch_expiry, single=False),
        Job("try certificates", 60, certificates.try_untried),
        Job("care for push history", 6 * 3600, care_for_history),
    ]
    if settings.apns_portal_url:
        portal = StandInPortal(pool, settings.apns_portal_url, certificates)
        found.append(Job("stand-in certificate", 2, portal.run))
    return found
