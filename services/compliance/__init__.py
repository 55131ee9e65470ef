"""Which devices meet the organisation's rules, since when, and how that is known.

Policies with typed rules are judged against the facts that inventory tells of. A verdict is reached
again when an input it reads changes, when a policy changes, and when time alone changes it; the
others hear only of verdicts that changed.
"""

from __future__ import annotations
