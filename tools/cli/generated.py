"""Files that are made from code: written, or compared with what is committed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def write(files: Mapping[str, str], root: Path, *, swept: Mapping[str, str]) -> list[str]:
    """Write what differs and return its paths; `swept` folders lose files that are made no more.

    `files` maps paths below `root` to their text, `swept` a folder to a pattern of its files.
    """
    changed = differing(files, root, swept=swept)
    for name in changed:
        path = root / name
        if name in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[name], encoding="utf-8")
        else:
            path.unlink()
    return changed


def differing(files: Mapping[str, str], root: Path, *, swept: Mapping[str, str]) -> list[str]:
    """The paths whose committed text is not what the code makes, or that it makes no more."""
    stale = [
        str(path.relative_to(root))
        for folder, pattern in swept.items()
        for path in (root / folder).glob(pattern)
        if str(path.relative_to(root)) not in files
    ]
    return sorted(stale + [name for name, text in files.items() if _read(root / name) != text])


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def run(files: Mapping[str, str], *, swept: Mapping[str, str], check: bool, target: str) -> int:
    """Write, or with `check` only compare; say what came of it; return the exit status."""
    if not check:
        changed = write(files, ROOT, swept=swept)
        print(f"{len(changed)} of {len(files)} files changed" if changed else "nothing changed")
        return 0
    changed = differing(files, ROOT, swept=swept)
    for name in changed:
        print(f"{name} is not what the code makes")
    if changed:
        print(f"Run `make {target}` and commit the result.")
    return 1 if changed else 0
