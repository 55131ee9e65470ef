"""Answers for what each device should have: profiles, declarations, apps, assignments, rollouts.

For now every device is declared the empty set; enrollment asks for it inside a check-in.
"""

from __future__ import annotations
