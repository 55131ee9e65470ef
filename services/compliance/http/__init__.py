"""What compliance answers over HTTP."""

from __future__ import annotations
