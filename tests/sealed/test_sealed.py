"""Secrets open where they belong, and nowhere else."""

from __future__ import annotations

import base64
import os
import stat
import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.sealed import (
    Keyring,
    LocalCipher,
    PublicKeys,
    SealError,
    contexts,
    ensure_service_keys,
    rotate_service_keys,
    token_key,
)

DEVICE = UUID("0197b3a0-0000-7000-8000-000000000001")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for service in ("push_notifier", "command_queue"):
        ensure_service_keys(tmp_path, service)
    return tmp_path


def seal(root: Path, plaintext: bytes = b"token", purpose: str = "push") -> str:
    public = PublicKeys(root / "public")
    return public.seal("push_notifier", plaintext, purpose=purpose, device_id=DEVICE)


def test_only_the_named_service_opens(root: Path) -> None:
    sealed = seal(root)
    assert "token" not in sealed
    ours = Keyring.load(root / "push_notifier")
    assert ours.open(sealed, purpose="push", device_id=DEVICE) == b"token"
    with pytest.raises(SealError, match="unknown key"):
        Keyring.load(root / "command_queue").open(sealed, purpose="push", device_id=DEVICE)


def test_purpose_and_device_are_bound(root: Path) -> None:
    ours, sealed = Keyring.load(root / "push_notifier"), seal(root)
    with pytest.raises(SealError, match="does not open"):
        ours.open(sealed, purpose="unlock", device_id=DEVICE)
    with pytest.raises(SealError, match="does not open"):
        ours.open(sealed, purpose="push", device_id=uuid4())


def test_the_same_secret_looks_different_each_time(root: Path) -> None:
    assert seal(root) != seal(root)


def test_a_lifetime_of_messages_shares_an_encapsulated_key(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no two of them a sequence number; a context that is over is followed by a new one."""
    public, ours = PublicKeys(root / "public"), Keyring.load(root / "push_notifier")
    blobs = []
    for count in range(8):
        if count == 4:
            monkeypatch.setattr(time, "monotonic", lambda: float("inf"))
        sealed = public.seal("push_notifier", b"%d" % count, purpose="push", device_id=DEVICE)
        assert ours.open(sealed, purpose="push", device_id=DEVICE) == b"%d" % count
        blobs.append(base64.b64decode(sealed))
        if count == 4:
            monkeypatch.undo()
    assert [len({blob[13:45] for blob in part}) for part in (blobs[:4], blobs)] == [1, 2]
    assert len({blob[45:57] for blob in blobs}) == 8


def test_one_message_is_what_the_library_makes_of_it() -> None:
    """Sequence number 0 is RFC 9180's single message, in both directions."""
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    key = X25519PrivateKey.generate()
    theirs = suite.encrypt(b"theirs", key.public_key(), b"info")
    assert contexts.opening(key, theirs[:32], b"info").open(0, theirs[32:], b"") == b"theirs"
    sending = contexts.Sender(key.public_key(), b"info")._sending
    ours = sending.encapsulated + sending.context.seal(0, b"ours", b"")
    assert suite.decrypt(ours, key, b"info") == b"ours"


def test_each_sequence_number_has_a_nonce_of_its_own() -> None:
    key = X25519PrivateKey.generate()
    sending = contexts.Sender(key.public_key(), b"info")._sending
    reader = contexts.opening(key, sending.encapsulated, b"info")
    for sequence in (1, 255, 256, 2**96 - 1):
        sealed = sending.context.seal(sequence, b"x", b"for")
        assert reader.open(sequence, sealed, b"for") == b"x"
        with pytest.raises(InvalidTag):
            reader.open(sequence ^ 1, sealed, b"for")


def test_what_was_sealed_alone_still_opens(root: Path) -> None:
    """Version 1: an encapsulated key of its own, the purpose in `info`."""
    public = PublicKeys(root / "public").newest("push_notifier")
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    info = b"muster sealed 1\x00\x04push" + DEVICE.bytes
    blob = b"\x01" + bytes.fromhex(public.key_id) + suite.encrypt(b"token", public.key, info)
    sealed = base64.b64encode(blob).decode()
    ours = Keyring.load(root / "push_notifier")
    assert ours.open(sealed, purpose="push", device_id=DEVICE) == b"token"
    with pytest.raises(SealError, match="does not open"):
        ours.open(sealed, purpose="unlock", device_id=DEVICE)


@pytest.mark.parametrize(
    "sealed",
    [
        *("", "*", "AA==", base64.b64encode(b"\x03" + b"x" * 80).decode()),
        *(base64.b64encode(b"\x02" + b"x" * length).decode() for length in (12, 20, 50, 80)),
    ],
)
def test_junk_does_not_open(root: Path, sealed: str) -> None:
    with pytest.raises(SealError):
        Keyring.load(root / "push_notifier").open(sealed, purpose="push", device_id=DEVICE)


def test_every_damaged_octet_is_noticed(root: Path) -> None:
    ours = Keyring.load(root / "push_notifier")
    blob = bytearray(base64.b64decode(seal(root)))
    for at in range(len(blob)):
        damaged = blob.copy()
        damaged[at] ^= 1
        text = base64.b64encode(damaged).decode()
        with pytest.raises(SealError):
            ours.open(text, purpose="push", device_id=DEVICE)


def test_rotation_keeps_the_old_readable(root: Path) -> None:
    ours = Keyring.load(root / "push_notifier")
    public = PublicKeys(root / "public")
    old_key = public.newest("push_notifier")
    old = public.seal("push_notifier", b"old", purpose="push", device_id=DEVICE)
    for _ in range(2):
        rotate_service_keys(root, "push_notifier")
    new_key = public.newest("push_notifier")
    assert new_key.key_id > old_key.key_id
    assert len(list((root / "public").glob("push_notifier-*.sealing.pub"))) == 2
    new = public.seal("push_notifier", b"new", purpose="push", device_id=DEVICE)
    # A keyring loaded before the rotation reads the folder again for a key it does not know.
    assert ours.open(new, purpose="push", device_id=DEVICE) == b"new"
    assert ours.open(old, purpose="push", device_id=DEVICE) == b"old"


def test_keys_are_made_once_and_private(root: Path) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    ensure_service_keys(root, "push_notifier")
    assert before == {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    for path in (root / "push_notifier").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "push_notifier").stat().st_mode) == 0o700
    assert {path.suffix for path in (root / "public").iterdir()} == {".pub"}


def test_a_lost_public_half_is_written_again(root: Path) -> None:
    path = next((root / "public").glob("push_notifier-*.sealing.pub"))
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(SealError, match="no public sealing key of push_notifier"):
        seal(root)
    ensure_service_keys(root, "push_notifier")
    assert path.read_bytes() == content


def test_token_key_matches_its_public_half(root: Path) -> None:
    key_id, key = token_key(root / "command_queue")
    path = root / "public" / f"command_queue-{key_id}.token.pub"
    public = serialization.load_pem_public_key(path.read_bytes())
    assert isinstance(public, Ed25519PublicKey)
    public.verify(key.sign(b"claims"), b"claims")


def test_missing_keys_say_what_to_do(tmp_path: Path) -> None:
    for load in (Keyring.load, LocalCipher.load):
        with pytest.raises(SealError, match="create the service's keys"):
            load(tmp_path)
    with pytest.raises(FileNotFoundError, match="create the service's keys"):
        token_key(tmp_path)


@pytest.mark.parametrize("service", ["public", "../etc", "a-b", ""])
def test_names_that_are_no_service(tmp_path: Path, service: str) -> None:
    with pytest.raises(ValueError, match="no service"):
        ensure_service_keys(tmp_path, service)


def test_files_in_a_wide_umask_stay_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        ensure_service_keys(tmp_path, "inventory")
    finally:
        os.umask(old)
    assert all(p.stat().st_mode & 0o077 == 0 for p in (tmp_path / "inventory").iterdir())


PLACE = {"table": "secret", "column": "value", "row": "1"}
OLD, NEW = "0" * 24, "1" * 24


def test_local_round_trip_and_place() -> None:
    cipher = LocalCipher({OLD: b"k" * 32})
    blob = cipher.encrypt(b"pin", **PLACE)
    assert b"pin" not in blob
    assert cipher.decrypt(blob, **PLACE) == b"pin"
    for part in PLACE:
        with pytest.raises(SealError, match="another row"):
            cipher.decrypt(blob, **(PLACE | {part: "other"}))
    with pytest.raises(SealError, match="another row"):  # the parts do not run into each other
        cipher.decrypt(blob, table="secretv", column="alue", row="1")


def test_local_rotation() -> None:
    old = LocalCipher({OLD: b"k" * 32})
    blob = old.encrypt(b"pin", **PLACE)
    both = LocalCipher({OLD: b"k" * 32, NEW: b"n" * 32})
    assert (both.newest, both.older) == (NEW, [OLD])
    renewed = both.reencrypt(blob, **PLACE)
    assert LocalCipher({NEW: b"n" * 32}).decrypt(renewed, **PLACE) == b"pin"
    with pytest.raises(SealError, match="unknown key"):
        LocalCipher({NEW: b"n" * 32}).decrypt(blob, **PLACE)


def test_local_keys_from_files(root: Path) -> None:
    folder = root / "command_queue"
    before = LocalCipher.load(folder)
    blob = before.encrypt(b"pin", **PLACE)
    for _ in range(3):  # within one second
        rotate_service_keys(root, "command_queue")
    after = LocalCipher.load(folder)
    assert before.newest == min(after.older)
    assert after.decrypt(blob, **PLACE) == b"pin"
    # What is not started anew yet reads what others write with the new key.
    assert before.decrypt(after.encrypt(b"new", **PLACE), **PLACE) == b"new"


@pytest.mark.parametrize("bad", [{}, {OLD: b"short"}, {"00": b"k" * 32}])
def test_bad_local_keys(bad: dict[str, bytes]) -> None:
    with pytest.raises(SealError):
        LocalCipher(bad)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_an_error(blob: bytes) -> None:
    cipher = LocalCipher({OLD: b"k" * 32})
    with pytest.raises(SealError):
        cipher.decrypt(blob, **PLACE)
    with pytest.raises(SealError):
        cipher.decrypt(b"\x01" + bytes(12) + blob, **PLACE)
