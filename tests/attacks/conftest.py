"""Attackers' means: the services under attack come from the rooms that know how to start them."""

from __future__ import annotations

from tests.command_queue.conftest import budgets, clock, fleet
from tests.console.conftest import proven
from tests.enrollment.conftest import bare_house, house

__all__ = ["bare_house", "budgets", "clock", "fleet", "house", "proven"]
