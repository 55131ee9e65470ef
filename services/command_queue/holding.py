"""What is frozen of a command when it is held, and whether it is still the same."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.command_queue.assertions import digest_of
from services.command_queue.budgets import Hold
from services.command_queue.store import approvals as store
from services.command_queue.store.approvals import Held, Holding
from services.command_queue.store.targets import Chunk
from shared.db.pool import Connection
from shared.sealed import LocalCipher, SealError

PURPOSE = "approve command"
_NONE = bytes(16)
_SALT = 32
Open = Callable[[bytes], bytes]
_Target = tuple[UUID, UUID | None, bytes | None]
"""Device, named channel, what it alone would get."""


def frozen(
    command_id: UUID,
    hold: Hold,
    document: bytes,
    chunks: Sequence[Chunk],
    cipher: LocalCipher | None,
    now: datetime,
) -> Holding:
    """`document`: as devices get it; `cipher`: what single devices' are stored under, where they
    hold secrets.
    """
    clear, salt = opener(command_id, cipher), secrets.token_bytes(_SALT) if cipher else b""
    targets: list[_Target] = []
    for chunk in chunks:
        nothing = [None] * len(chunk.device_ids)
        named = zip(
            chunk.device_ids, chunk.channel_ids or nothing, chunk.bodies or nothing, strict=True
        )
        targets += [
            (device, channel, None if body is None else _sha(clear(body), salt))
            for device, channel, body in named
        ]
    targets.sort(key=lambda one: (one[0].bytes, one[1].bytes if one[1] else b""))
    channels, bodies = [one[1] for one in targets], [one[2] for one in targets]
    return Holding(
        command_id=command_id,
        why=hold.why,
        needs=hold.needs,
        not_before=now + hold.wait,
        content=_sha(document, salt),
        device_ids=[one[0] for one in targets],
        channel_ids=channels if any(channels) else None,
        bodies=bodies if any(bodies) else None,
        salt=cipher.encrypt(salt, **_place(command_id)) if cipher else None,
    )


def subject_of(held: Held, expires_at: datetime) -> dict[str, Any]:
    """What an approver signs, as their browser and the audit may show it."""
    devices, channels, bodies = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    for device, channel, body in _targets(held):
        devices.update(device.bytes)
        channels.update(channel.bytes if channel else _NONE)
        bodies.update(body or _NONE)
    return {
        "command_id": str(held.command_id),
        "content": held.content.hex(),
        "own_bodies": bodies.hexdigest() if held.bodies else None,
        "devices": devices.hexdigest(),
        "channels": channels.hexdigest() if held.channel_ids else None,
        "targets": held.target_count,
        "reason": held.reason,
        "requester": held.actor,
        "expires_at": int(expires_at.timestamp()),
    }


def digest(held: Held, expires_at: datetime) -> bytes:
    return digest_of(PURPOSE, subject_of(held, expires_at))


def opener(command_id: UUID, cipher: LocalCipher | None) -> Open:
    """How a command's stored documents are read; without a cipher they lie in clear."""
    if cipher is None:
        return lambda body: body
    row = str(command_id)
    return lambda body: cipher.decrypt(body, table="command", column="body", row=row)


async def changed(tx: Connection, held: Held, cipher: LocalCipher) -> str | None:
    """What differs between what was frozen and what would be handed out now; None: nothing."""
    clear = opener(held.command_id, cipher if held.secret else None)
    try:
        salt = cipher.decrypt(held.salt, **_place(held.command_id)) if held.salt else b""
    except SealError:
        return "what was frozen of it does not open"

    def differs(body: bytes | None, approved: bytes | None) -> bool:
        try:
            return (None if body is None else _sha(clear(body), salt)) != approved
        except SealError:
            return True

    if differs(held.body, held.content):
        return "the command is not the one that was approved"
    approved = {(device, channel): body for device, channel, body in _targets(held)}
    for row in await store.left_to_do(tx, held.command_id):
        place = (row["device_id"], row["channel_id"])
        if place not in approved and row["own"]:
            place = (row["device_id"], None)
        if place not in approved:
            return "a target was added since"
        if differs(row["body"], approved[place]):
            return "what one of the devices would get is not what was approved"
    return None


def _targets(held: Held) -> list[_Target]:
    nothing = [None] * len(held.device_ids)
    named = zip(held.device_ids, held.channel_ids or nothing, held.bodies or nothing, strict=True)
    return list(named)


def _sha(document: bytes, salt: bytes) -> bytes:
    """Salted where it holds a secret: approvers and auditors see what is signed."""
    return hmac.digest(salt, document, "sha256") if salt else hashlib.sha256(document).digest()


def _place(command_id: UUID) -> dict[str, str]:
    return {"table": "holding", "column": "salt", "row": str(command_id)}
