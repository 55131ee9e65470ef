"""All SQL of compliance, a module for each noun."""

from __future__ import annotations
