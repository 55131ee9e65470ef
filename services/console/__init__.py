"""Answers for people: set-up, sign-in and tokens, the audit of what everybody did.

For now: the single-use set-up token, the key that signs access tokens, and the audit.
"""

from __future__ import annotations
