"""What configuration answers over HTTP."""

from __future__ import annotations
