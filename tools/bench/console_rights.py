"""What it costs to find out who asks, what they may, and which of a page's devices they may see."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from services.console.http.keys import SESSIONS, VIEWS
from services.console.people import person_of
from shared.runtime.http import Reach
from shared.runtime.testing import Trial

TIMES: Final = 300
PAGE: Final = 100
_READ: Final = "inventory.read"


async def measure(
    service: Trial, headers: Mapping[str, str], device_ids: Sequence[UUID]
) -> dict[str, Any]:
    """Milliseconds in the middle of many: of a session, and of a hundred devices with a reach more
    than without one.
    """
    secret = headers["Cookie"].partition("=")[2]
    sessions, views = service.parts.values[SESSIONS], service.parts.values[VIEWS]
    page = list(device_ids[:PAGE])

    async def judge() -> Reach:
        known = await sessions.judge(secret, active=False)
        return person_of(known, None).reach(_READ)

    reach = await judge()
    if reach is None:
        raise RuntimeError("somebody with a group was meant")
    judged = await _milliseconds(judge)
    within = await _milliseconds(lambda: views.some(page, reach))
    anywhere = await _milliseconds(lambda: views.some(page, None))
    return {
        "scenario": "console: permissions for a page of 100 devices",
        "session_ms": round(judged, 2),
        "devices_ms": round(within - anywhere, 2),
        "ms": round(judged + max(0.0, within - anywhere), 2),
    }


async def _milliseconds(ask: Callable[[], Awaitable[object]]) -> float:
    took = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        await ask()
        took.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(took)
