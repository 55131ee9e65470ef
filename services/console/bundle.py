"""What pages are made of besides HTML: style sheets, scripts, icons. Read once, served from memory.

Addresses hold a digest of all of it, so that browsers may keep them for ever.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

OWN = Path(__file__).parent / "static"
_SMALL = 1024


@dataclass(frozen=True)
class Asset:
    content_type: str
    data: bytes
    zipped: bytes | None
    """None: not worth it."""


@dataclass(frozen=True)
class Bundle:
    digest: str
    assets: Mapping[str, Asset]

    @classmethod
    def load(cls, *folders: Path) -> Bundle:
        """All files of the folders; a later folder's file hides an earlier one's of that name."""
        found = {
            path.relative_to(folder).as_posix(): path
            for folder in folders
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        digest = hashlib.sha256()
        assets = {}
        for name, path in sorted(found.items()):
            data = path.read_bytes()
            digest.update(f"{name}\0{len(data)}\0".encode() + data)
            assets[name] = _asset(name, data)
        return cls(digest.hexdigest()[:20], assets)

    def url(self, name: str) -> str:
        return f"/assets/{self.digest}/{name}"


def _asset(name: str, data: bytes) -> Asset:
    content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    zipped = gzip.compress(data, 6, mtime=0) if len(data) > _SMALL else None
    worth_it = zipped is not None and len(zipped) < len(data)
    return Asset(content_type, data, zipped if worth_it else None)
