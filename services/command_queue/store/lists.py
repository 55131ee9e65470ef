"""Lists of commands by any filter, newest first.

Statements are put together from the filters that a request has: a condition that may or may not
hold hides the index that would answer it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from shared.db.pool import Connection, Record
from shared.runtime.http import Reach

# The newest of a device come first, each looked up by its id: no statistics tell how many commands
# a device had, and a walk through everybody's until fifty of its own have come would be long.
_OF_DEVICE: Final = """(
    SELECT own.command_id FROM (
        SELECT command_id FROM outcome WHERE {0}
        UNION SELECT command_id FROM pending WHERE {0}
        UNION SELECT command_id FROM waiting WHERE {0}
    ) AS own ORDER BY own.command_id DESC OFFSET 0
) AS own CROSS JOIN LATERAL (
    SELECT * FROM any_command AS a WHERE a.command_id = own.command_id OFFSET 0
) AS c"""


@dataclass(frozen=True, slots=True)
class Filters:
    """All must hold. Ids are UUIDv7, so they are the time that was asked at as well."""

    kind: str | None = None
    state: str | None = None
    actor: str | None = None
    device_id: UUID | None = None
    since: UUID | None = None
    """The lowest id of an instant."""
    before: UUID | None = None


async def newest(tx: Connection, filters: Filters, reach: Reach, limit: int) -> list[Record]:
    """Who has rights on some groups sees what was asked for within these, and nothing wider."""
    text, values = statement(filters, reach)
    return await tx.fetch(text, *values, limit)


def statement(filters: Filters, reach: Reach) -> tuple[str, list[Any]]:
    """The list, and its parameters but for the limit, which is the last."""
    values: list[Any] = []

    def place(value: Any) -> str:
        values.append(value)
        return f"${len(values)}"

    times = [("<", filters.before), (">=", filters.since)]
    within = [f"command_id {sign} {place(bound)}" for sign, bound in times if bound is not None]
    conditions = [f"c.{one}" for one in within]
    named = {name: getattr(filters, name) for name in ("kind", "state", "actor")}
    conditions += [f"c.{name} = {place(one)}" for name, one in named.items() if one is not None]
    if reach is not None:
        # An index has those that were asked for within groups alone, for who says so.
        conditions += ["c.reach IS NOT NULL", f"c.reach <@ {place(list(reach))}::uuid[]"]
    source = "any_command AS c"
    if filters.device_id is not None:
        source = _OF_DEVICE.format(
            " AND ".join([f"device_id = {place(filters.device_id)}", *within])
        )
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    last = len(values) + 1
    return f"SELECT c.* FROM {source} {where} ORDER BY c.command_id DESC LIMIT ${last}", values
