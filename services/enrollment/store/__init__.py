"""All SQL of the service, one module a noun."""

from __future__ import annotations
