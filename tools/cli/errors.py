"""What the command line says instead of a stack trace."""

from __future__ import annotations


class CliError(Exception):
    """Ends the command; the message says what is the matter and what to do next."""
