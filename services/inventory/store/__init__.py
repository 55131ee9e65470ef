"""All SQL of inventory, a module for each noun."""

from __future__ import annotations
