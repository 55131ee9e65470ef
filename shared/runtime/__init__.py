"""How a service starts, stops, logs, measures itself, checks tokens and answers HTTP."""

from __future__ import annotations
