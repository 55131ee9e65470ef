"""The read model: what events tell of devices, kept as lists and pages want it."""

from __future__ import annotations
