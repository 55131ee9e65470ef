"""Making a service's keys, and finding them again.

`<root>/<service>/` holds `<id>.sealing.key`, `<id>.token.key` (PKCS#8 PEM) and `<id>.local.key`
(base64 of 32 octets); `<root>/public/` holds `<service>-<id>.sealing.pub` and `…token.pub`. The
console has `<id>.audit.key` too, for the roots of its audit and nothing else. `<root>/webhooks/`
holds the `<id>.local.key` of webhooks' secrets alone, since a process that calls strangers has that
folder and no other (docs/decisions/0070). An id is 24 hex digits: four octets of time, so that the
newest sorts last, and eight that depend on the key.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from shared.sealed import files

LOCAL_KEY_SIZE: Final = 32
KEY_ID_SIZE: Final = 12
_KEPT_PUBLIC: Final = 2
_PAIRS: Final = ("sealing", "token")
_MORE_PAIRS: Final = {"console": ("audit",)}
WEBHOOK_KEYS: Final = "webhooks"
"""The folder of the key that webhooks' secrets are encrypted with."""
_APART: Final = {"console": (WEBHOOK_KEYS,)}
"""More folders of a service, each with a local key and nothing else."""
_PROOFS: Final = frozenset({"audit"})
"""Old public halves of these prove what was signed long ago: all stay."""
_KEY_ID: Final = re.compile(r"[0-9a-f]{24}")
_SERVICE: Final = re.compile(r"[a-z][a-z_]{0,40}")


def ensure_service_keys(root: Path, service: str) -> None:
    """Create the keys that a service lacks, and public halves that are missing. Idempotent."""
    private, public = _folders(root, service)
    for kind in _pairs(service):
        if not find(private, f".{kind}.key"):
            _add_pair(private, kind, datetime.now(UTC))
        _publish(private, public, service, kind)
    for folder in _local_folders(root, service):
        if not find(folder, ".local.key"):
            _add_local(folder, datetime.now(UTC))


def rotate_service_keys(root: Path, service: str) -> None:
    """Add a new key of each kind; of the public halves the two newest stay.

    Private and local keys all stay: what was sealed or encrypted with them must open until it is
    written anew.
    """
    private, public = _folders(root, service)
    now = datetime.now(UTC)
    for kind in _pairs(service):
        _add_pair(private, kind, now)
        _publish(private, public, service, kind)
        published = find(public, f".{kind}.pub", prefix=f"{service}-")
        for key_id in [] if kind in _PROOFS else sorted(published)[:-_KEPT_PUBLIC]:
            published[key_id].unlink(missing_ok=True)
    for folder in _local_folders(root, service):
        _add_local(folder, now)


def token_key(folder: Path) -> tuple[str, Ed25519PrivateKey]:
    """Return id and key of a service's newest token-signing key; its folder must hold one."""
    return _signing_key(folder, "token")


def audit_key(folder: Path) -> tuple[str, Ed25519PrivateKey]:
    """Return id and key by which the audit's roots are signed; the folder must hold one."""
    return _signing_key(folder, "audit")


def _local_folders(root: Path, service: str) -> list[Path]:
    """Where a service has local keys; made where they are missing."""
    found = [root / name for name in (service, *_APART.get(service, ()))]
    for folder in found:
        files.make_private_folder(folder)
    return found


def _pairs(service: str) -> tuple[str, ...]:
    return _PAIRS + _MORE_PAIRS.get(service, ())


def _signing_key(folder: Path, kind: str) -> tuple[str, Ed25519PrivateKey]:
    found = find(folder, f".{kind}.key")
    if not found:
        raise FileNotFoundError(f"no {kind} key in {folder}: create the service's keys first")
    newest = max(found)
    key = serialization.load_pem_private_key(found[newest].read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(f"{found[newest].name} is no Ed25519 key")
    return newest, key


def find(folder: Path, suffix: str, *, prefix: str = "") -> dict[str, Path]:
    """Return the key files of one kind by key id; other files are left alone."""
    return dict(_named(folder, prefix, suffix))


def _named(folder: Path, prefix: str, suffix: str) -> Iterator[tuple[str, Path]]:
    for path in folder.glob(f"{prefix}*{suffix}"):
        key_id = path.name[len(prefix) : -len(suffix)]
        if _KEY_ID.fullmatch(key_id):
            yield key_id, path


def _folders(root: Path, service: str) -> tuple[Path, Path]:
    if _SERVICE.fullmatch(service) is None or service == "public":
        raise ValueError(f"no service is called {service}")
    private, public = root / service, root / "public"
    files.make_private_folder(private)
    public.mkdir(mode=0o755, parents=True, exist_ok=True)
    return private, public


def _key_id(material: bytes, now: datetime, known: Iterable[str]) -> str:
    """Greater than every known one, also within one second and after a clock went back."""
    after = max((int(key_id[:8], 16) + 1 for key_id in known), default=0)
    time = max(int(now.timestamp()), after)
    return f"{time:08x}{hashlib.sha256(material).hexdigest()[:16]}"


def _add_pair(private: Path, kind: str, now: datetime) -> None:
    key: X25519PrivateKey | Ed25519PrivateKey
    key = X25519PrivateKey.generate() if kind == "sealing" else Ed25519PrivateKey.generate()
    encoded = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    key_id = _key_id(key.public_key().public_bytes_raw(), now, find(private, f".{kind}.key"))
    files.write_private(private / f"{key_id}.{kind}.key", encoded)


def _add_local(private: Path, now: datetime) -> None:
    # The id must not be a function of the key: it is written beside every ciphertext.
    key_id = _key_id(secrets.token_bytes(16), now, find(private, ".local.key"))
    encoded = base64.b64encode(secrets.token_bytes(LOCAL_KEY_SIZE)) + b"\n"
    files.write_private(private / f"{key_id}.local.key", encoded)


def _publish(private: Path, public: Path, service: str, kind: str) -> None:
    """Write the public halves of the newest private keys that are not published yet."""
    found = find(private, f".{kind}.key")
    for key_id in sorted(found)[-_KEPT_PUBLIC:]:
        path = public / f"{service}-{key_id}.{kind}.pub"
        if path.exists():
            continue
        key = serialization.load_pem_private_key(found[key_id].read_bytes(), password=None)
        encoded = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        files.write_public(path, encoded)
