"""Which columns a service encrypts for itself: so that all of them can be found again."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass


@dataclass(frozen=True, slots=True)
class EncryptedColumn:
    """A column of blobs of a `LocalCipher`; what else lies in it is left alone."""

    table: str
    column: str
    row: str
    """SQL: the row's name in the associated data."""
    _: KW_ONLY
    place: tuple[str, str] = ("", "")
    """Table and column in the associated data, where they are not its own."""
    many: bool = False
    """An array, of which each element is encrypted by itself."""
    keys: str = ""
    """Whose folder of keys; empty: the service's own."""

    @property
    def name(self) -> str:
        return f"{self.table}.{self.column}"
