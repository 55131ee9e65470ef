"""All SQL of command_queue, by noun."""

from __future__ import annotations
