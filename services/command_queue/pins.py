"""PINs that Macs are locked by: made here, and kept with the command that carries them (decision
61), so that nobody alone knows what a Mac starts with.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from services.command_queue.catalogue import Order
from services.command_queue.errors import CommandRefused
from services.command_queue.store import devices, escrow
from services.command_queue.store.escrow import Kept
from shared.db.pool import Connection
from shared.events import uuid7
from shared.events.commands import CommandClass
from shared.runtime import turns
from shared.sealed import LocalCipher

MOST: Final = 10_000
"""Devices with a PIN in one command: each has a document of its own."""
_LOCK: Final = "device.lock"
_KINDS: Final[Mapping[str, str]] = {"DeviceLock": "lock_pin", "EraseDevice": "erase_pin"}
_PIECE: Final = 2000
Bodies = Mapping[UUID, Mapping[str, Any]]


async def made(
    tx: Connection, kind: str, params: Mapping[str, Any], device_ids: Sequence[UUID], bodies: Bodies
) -> dict[UUID, dict[str, Any]]:
    """The parameters of every Mac that is to be locked and was given no PIN, with one of its own.

    Of what is not known yet it is not known that it is no Mac. Raises CommandRefused.
    """
    if kind != _LOCK or (params.get("pin") is not None and not bodies):
        return {}
    found: dict[UUID, dict[str, Any]] = {}
    async for some in turns.pieces(device_ids, _PIECE):
        for device in await devices.perhaps_macs(tx, some):
            own = bodies.get(device, params)
            if own.get("pin") is None:
                found[device] = {**own, "pin": f"{secrets.randbelow(10**6):06}"}
        _check(len(found))
    return found


@dataclass(frozen=True, slots=True)
class Chosen:
    """The PINs of one command, by device."""

    command_id: UUID
    actor: str
    request_type: str
    pins: Mapping[UUID, str] = field(repr=False)


def chosen(
    command_id: UUID,
    actor: str,
    order: Order,
    own: Mapping[UUID, Order],
    device_ids: Sequence[UUID],
) -> Chosen:
    """Every PIN that a device would be given, whoever chose it. Raises CommandRefused."""
    common = _pin(order)
    if common is None:
        found = {device: pin for device, one in own.items() if (pin := _pin(one))}
    else:
        _check(len(device_ids))
        every = {device: _pin(own.get(device, order)) for device in device_ids}
        found = {device: pin for device, pin in every.items() if pin}
    _check(len(found))
    return Chosen(command_id, actor, order.request_type, found)


def class_of(order: Order, platform: str | None) -> CommandClass:
    """What it would be on such a device: what Macs are locked by has a PIN, made here."""
    locks = order.kind == _LOCK and platform == "macos"
    return CommandClass.DESTRUCTIVE if locks else order.command_class


def noted(order: Order, chosen: Chosen) -> Order:
    """Let people see that there is one."""
    return replace(order, summary={**order.summary, "pin": "set"}) if chosen.pins else order


async def keep(
    tx: Connection, cipher: LocalCipher, commands: Sequence[Chosen], now: datetime
) -> None:
    """Keep the PINs of commands, in the transaction that stores them."""
    given = [(of, device, pin) for of in commands for device, pin in of.pins.items()]
    async for some in turns.pieces(given, _PIECE):
        await escrow.keep(tx, [_kept(cipher, of, device, pin, now) for of, device, pin in some])


def clear(cipher: LocalCipher, kept: Kept) -> str:
    """The PIN; raises SealError."""
    row = str(kept.secret_id)
    return cipher.decrypt(kept.sealed, table="escrow", column="sealed", row=row).decode()


def _kept(cipher: LocalCipher, of: Chosen, device: UUID, pin: str, now: datetime) -> Kept:
    secret_id = uuid7(now)
    sealed = cipher.encrypt(pin.encode(), table="escrow", column="sealed", row=str(secret_id))
    kind = _KINDS[of.request_type]
    return Kept(secret_id, device, of.command_id, kind, sealed, of.actor, now)


def _pin(order: Order) -> str | None:
    pin = order.command.get("PIN") if order.request_type in _KINDS else None
    return pin if isinstance(pin, str) and pin else None


def _check(count: int) -> None:
    if count > MOST:
        raise CommandRefused("pins_too_many", f"One command sets at most {MOST} PINs.")
