"""A command's own trace, on through the requests of devices that serve many commands at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from services.command_queue.store.outcomes import Settled
from services.command_queue.store.pending import Claimed
from services.command_queue.turn import Turn
from shared.bus import tracing

MOST_TARGETS: Final = 20
"""A trace that tells of more devices than these is read by nobody and fills its backend."""

_SERVICE: Final = "command_queue"


def kept(traceparent: str | None, targets: int) -> str | None:
    """What a command keeps of the request that asked for it: of a fan-out the request alone is
    recorded, and its devices' part is only tied to it by the trace id in logs and events.
    """
    return traceparent if targets <= MOST_TARGETS else tracing.unrecorded(traceparent)


def handed_out(claimed: Iterable[Claimed], turns: Sequence[Turn], began_at: int) -> None:
    """Tell each command's trace that a device fetched it, and by which request."""
    if not tracing.is_on():
        return
    requests = _requests(turns)
    for one in claimed:
        tracing.mark(
            _SERVICE,
            f"hand out {one.kind}",
            one.traceparent,
            began_at=began_at,
            link=requests.get(one.channel_id),
            attributes={"muster.delivery": one.deliveries},
        )


def answered(settled: Sequence[Settled], turns: Sequence[Turn], began_at: int) -> list[Settled]:
    """Tell each command's trace that its answer came; what follows from it goes on from there."""
    if not tracing.is_on():
        return list(settled)
    requests = _requests(turns)
    return [
        replace(
            one,
            traceparent=tracing.mark(
                _SERVICE,
                f"answer {one.kind}",
                one.traceparent,
                began_at=began_at,
                link=requests.get(one.channel_id),
                attributes={"muster.outcome": one.state},
            ),
        )
        for one in settled
    ]


def _requests(turns: Sequence[Turn]) -> Mapping[UUID | None, str | None]:
    return {turn.channel_id: turn.traceparent for turn in turns}
