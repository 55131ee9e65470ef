"""Kafka: the outbox and its relay, the runner that lets events take effect, dead letters."""

from __future__ import annotations

from shared.bus.applying import apply
from shared.bus.handlers import Handler, Handlers, Poison, TryLater

__all__ = ["Handler", "Handlers", "Poison", "TryLater", "apply"]
