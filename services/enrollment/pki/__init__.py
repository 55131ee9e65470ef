"""Muster's own certificates: the CA and its helpers, device identities, revocation. Pure functions.

Keys are passed in and out as objects; where they are kept, and under which encryption, is decided
by who calls. Clocks are passed in.
"""

from __future__ import annotations
