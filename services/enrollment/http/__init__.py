"""The HTTP edge: parse, call, render."""

from __future__ import annotations
