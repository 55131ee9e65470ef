"""What command_queue refuses, and why: the message says what to do next."""

from __future__ import annotations


class CommandRefused(Exception):  # noqa: N818 (a refusal, not a fault of ours)
    """A request that cannot become a command; `code` is for programs."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class KeyTaken(CommandRefused):
    """The idempotency key stands for another request of the same actor."""

    def __init__(self) -> None:
        super().__init__(
            "idempotency_key_taken",
            "This idempotency key was used for a different command: send a new key.",
        )


class ApprovalRefused(CommandRefused):
    """Somebody may not decide, or did not prove that it was they."""

    def __init__(self, detail: str) -> None:
        super().__init__("approval_refused", detail)


class NotYet(CommandRefused):
    """It cannot go on at this moment."""

    def __init__(self, detail: str) -> None:
        super().__init__("not_yet", detail)


class RevealRefused(CommandRefused):
    """Somebody was shown as many secrets as one person may see in a while."""

    def __init__(self, detail: str) -> None:
        super().__init__("reveals_spent", f"{detail}. Ask somebody else, or wait.")


class NotFound(CommandRefused):
    def __init__(self, what: str) -> None:
        super().__init__(f"{what.replace(' ', '_')}_unknown", f"There is no such {what}.")


class OutOfReach(CommandRefused):
    """Devices are named that are not within the asker's reach: by number, never by name."""

    def __init__(self, devices: int) -> None:
        super().__init__(
            "devices_outside",
            f"{devices} of the named devices are not within your reach: nothing was asked for.",
        )
        self.devices = devices


class PeerRefused(Exception):  # noqa: N818 (a refusal, not a fault of ours)
    """A device's request that gets a short 400 and changes nothing."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
