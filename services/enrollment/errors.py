"""What goes wrong in enrollment, and what is said about it."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from services.enrollment.store.fences import Fence

Stage = Literal["profile", "scep", "authenticate", "token_update"]


class Refused(Exception):  # noqa: N818 - an answer, not a fault of ours
    """A device is turned away; `code` is for the device and the metric, `reason` for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class TryAgain(Exception):  # noqa: N818 - it happens to correct programs
    """What was confirmed or locked is not what must be.

    Have `fence` confirmed (None: none is needed), then try again with `devices` locked.
    """

    def __init__(self, fence: Fence | None = None, devices: frozenset[UUID] = frozenset()) -> None:
        super().__init__("another fence or other locks are needed")
        self.fence = fence
        self.devices = devices
