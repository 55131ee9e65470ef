"""What the console answers over HTTP."""

from __future__ import annotations
