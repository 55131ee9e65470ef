"""The Apple side: pure functions from commands to plists and from plists to answers."""

from __future__ import annotations
