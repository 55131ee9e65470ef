"""What the command line says instead of a stack trace."""

from __future__ import annotations


class CliError(Exception):
    """Ends the command; the message says what is the matter and what to do next."""


class Refused(CliError):  # noqa: N818 (a service's answer, not a fault)
    """A service answered, and did not do it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
