"""Lists of devices that somebody gave a name, for themselves or for everybody."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from services.console.people import account_of
from services.console.store import accounts
from services.console.store import saved_views as store
from services.console.store.saved_views import SavedView
from shared.db.pool import Pool, transaction
from shared.events.base import uuid7
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.problems import Problem

__all__ = ["READ", "TIDY", "SavedView", "SavedViews"]

READ: Final = "inventory.read"
TIDY: Final = "people.write"
"""Who has this may drop what others share."""
MOST: Final = 50


class SavedViews:
    """A view is a URL's query: what it shows is decided when somebody opens it, by their rights."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool, self._clock = pool, clock

    async def seen_by(self, caller: Caller) -> list[SavedView]:
        """One's own, and what others share."""
        account_id = account_of(caller.actor)
        if account_id is None:
            return []
        async with transaction(self._pool) as tx:
            return await store.seen_by(tx, account_id)

    async def save(self, caller: Caller, name: str, query: str, *, shared: bool) -> UUID:
        """Keep a list under a name; one's own view of that name is replaced."""
        account_id, now = account_of(caller.actor), self._clock.now()
        if account_id is None:
            raise Problem(403, "not_a_person", "Only people with an account have saved views.")
        view = SavedView(uuid7(now), name, query, shared, now, account_id, "")
        async with transaction(self._pool) as tx:
            await accounts.lock(tx, account_id)
            if await store.count_others(tx, account_id, name) >= MOST:
                raise Problem(409, "views_full", f"You have {MOST} saved views: delete one first.")
            view_id = await store.save(tx, view)
            target = f"view:{view_id}"
            await auditing.record(tx, caller, READ, "view.save", target, after=_told(view))
        return view_id

    async def drop(self, caller: Caller, view_id: UUID) -> None:
        """One's own; what is shared also by those who look after people."""
        async with transaction(self._pool) as tx:
            view = await store.lock(tx, view_id)
            own = view is not None and view.account_id == account_of(caller.actor)
            tidy = view is not None and view.shared and TIDY in caller.permissions
            if view is None or not (own or tidy):
                raise Problem(404, "view_unknown", "You have no such view. It may be gone already.")
            await store.drop(tx, view_id)
            permission, target = READ if own else TIDY, f"view:{view_id}"
            await auditing.record(tx, caller, permission, "view.delete", target, before=_told(view))


def _told(view: SavedView) -> dict[str, Any]:
    """What the audit has of it."""
    return {"name": view.name, "query": view.query, "shared": view.shared}
