"""What happened, told with the names of devices, people and commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from services.console.store import audit_names as names
from services.console.views.sentences import DEVICE, asked_text, sentence
from shared.db.pool import Connection

Row = dict[str, Any]
_OF_COMMANDS: Final = frozenset({"command.cancelled", "command.released", "command.continued"})
"""Of which only the id came; what it was is on record since it was asked for."""


async def told(tx: Connection, rows: Sequence[Row]) -> list[Row]:
    """Happenings with their sentences, whole and as the pieces around the device's name."""
    asked = await _asked(tx, rows)
    return [_told(row, asked) for row in rows]


async def _asked(tx: Connection, rows: Sequence[Row]) -> dict[str, str]:
    """Command → what it was, as `Lock Ada's iPhone`, where that is on record."""
    wanted = {_command(row) for row in rows if row["kind"] in _OF_COMMANDS} - {""}
    if not wanted:
        return {}
    found = await names.commands(tx, wanted)
    devices = {UUID(one["device"]) for one in found.values() if one.get("device")}
    known = {str(one): named.name for one, named in (await names.names(tx, devices)).items()}
    return {
        command: asked_text(one, known.get(one.get("device", ""))) for command, one in found.items()
    }


def _command(row: Row) -> str:
    return str(row["detail"].get("command_id", ""))


def _told(row: Row, asked: Mapping[str, str]) -> Row:
    name = row["device_name"] or "A device that is gone"
    what = asked.get(_command(row))
    detail = row["detail"] | ({"what_was_asked": what} if what else {})
    before, found, after = sentence({**row, "detail": detail}).partition(DEVICE)
    return {
        **row,
        "text": before + (name if found else "") + after,
        "before": before,
        "named": name if found else None,
        "after": after,
    }
