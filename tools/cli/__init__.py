"""`muster`: what people type. One file a family of commands."""

from __future__ import annotations
