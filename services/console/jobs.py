"""What the console does besides requests and events."""

from __future__ import annotations

from collections.abc import Sequence

from services.console.audit.checking import Checking
from services.console.audit.forgetting import Forgetting
from services.console.audit.roots import Roots
from services.console.codes import Codes
from services.console.identity.flows import Flows
from services.console.sealed import Sealed
from services.console.sessions import Sessions
from services.console.settings import ConsoleSettings
from services.console.throttling import Throttle
from services.console.views.activity import Retention
from services.console.views.verdicts import Clearing
from services.console.webhooks.sending import Sending
from shared.db.pool import Pool
from shared.runtime.clock import Clock
from shared.runtime.jobs import Job

_SWEEP_SECONDS = 600.0


def webhook_jobs(sending: Sending) -> list[Job]:
    """Of the process that tells webhooks; any number of such may run."""
    return [
        Job("send_webhooks", 1.0, sending.run, single=False),
        Job("sweep_deliveries", _SWEEP_SECONDS, sending.sweep),
    ]


def jobs_of(
    sessions: Sessions,
    throttle: Throttle,
    flows: Flows,
    codes: Codes,
    sealed: Sealed,
    sending: Sending,
    settings: ConsoleSettings,
    pool: Pool,
    clock: Clock,
) -> Sequence[Job]:
    own = [] if settings.webhooks_apart else webhook_jobs(sending)
    return [
        *own,
        Job("sweep_sessions", _SWEEP_SECONDS, sessions.sweep),
        Job("sweep_offers", _SWEEP_SECONDS, codes.sweep),
        Job("sweep_sealed_challenges", _SWEEP_SECONDS, sealed.sweep),
        Job("sweep_identity_flows", _SWEEP_SECONDS, flows.sweep),
        Job("clear_verdicts", 10.0, Clearing(pool).run),
        Job("sign_audit_root", 60.0, Roots(pool, settings.keys_dir, clock).sign),
        Job("forget_audit", 600.0, Forgetting(pool, settings.audit_days, clock).run),
        Job("check_audit", 600.0, Checking(pool, settings.keys_dir, clock).run),
        Job("forget_activity", 600.0, Retention(pool, settings, clock).run),
        Job("sweep_throttles", _SWEEP_SECONDS, throttle.sweep),
    ]
