"""What the console does besides requests and events."""

from __future__ import annotations

from collections.abc import Sequence

from services.console.sessions import Sessions
from shared.runtime.jobs import Job

_SWEEP_SECONDS = 600.0


def jobs_of(sessions: Sessions) -> Sequence[Job]:
    return [Job("sweep_sessions", _SWEEP_SECONDS, sessions.sweep)]
