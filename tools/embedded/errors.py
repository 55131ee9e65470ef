"""What can go wrong here, in words that say what to do next."""

from __future__ import annotations


class EmbeddedError(Exception):
    """A server could not be found, started or set up; the message is for the person at the
    terminal.
    """


class AlreadyRunningError(EmbeddedError):
    """Another process holds this checkout's lock."""
