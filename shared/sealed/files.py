"""Key files: written whole or not at all, readable by their owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

_PRIVATE: Final = 0o600
_PUBLIC: Final = 0o644


def write_private(path: Path, content: bytes) -> None:
    """Write a secret (mode 0600) in one step; an existing file is replaced."""
    _write(path, content, _PRIVATE)


def write_public(path: Path, content: bytes) -> None:
    """Write what everybody may read (mode 0644) in one step."""
    _write(path, content, _PUBLIC)


def make_private_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _write(path: Path, content: bytes, mode: int) -> None:
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask says
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut: a lost CA or local key is lost data."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
