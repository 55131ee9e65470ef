"""All SQL of configuration."""

from __future__ import annotations
