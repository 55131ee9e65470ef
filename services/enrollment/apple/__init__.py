"""The wire side of Apple enrollment: SCEP, profiles, check-in messages. Pure functions."""

from __future__ import annotations
