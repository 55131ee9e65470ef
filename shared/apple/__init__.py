"""Apple wire formats that two services need: property lists, CMS signatures, identifiers.

Everything here is pure: bytes to values and back, within limits, with one exception for each
format. Device bytes are hostile; nothing in this package trusts a length, a depth or a count.
"""

from __future__ import annotations
