"""Characters that turn the direction of what stands around them (Unicode, UAX 9): a name that holds
them can make a file, a person or a number look like another.
"""

from __future__ import annotations

from typing import Final

MARKS: Final = (0x200E, 0x200F, 0x061C)
"""They turn nothing far from them, and what is written from right to left may need them."""
TURNING: Final = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Embeddings, overrides and isolates: what is written from right to left by nature needs none."""
