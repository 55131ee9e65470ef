"""What goes wrong in enrollment, and what is said about it."""

from __future__ import annotations

from typing import Literal

from services.enrollment.store.fences import Fence

Stage = Literal["profile", "scep", "authenticate", "token_update"]


class Refused(Exception):  # noqa: N818 - an answer, not a fault of ours
    """A device is turned away; `code` is for the device and the metric, `reason` for people."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FenceNeeded(Exception):  # noqa: N818 - it happens to correct programs
    """What was confirmed is not what must be: have this fence confirmed, then try again."""

    def __init__(self, fence: Fence | None) -> None:
        super().__init__("another fence is needed")
        self.fence = fence
