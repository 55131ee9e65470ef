"""What a device is told when it asks for its declarations.

Shapes: Apple, Declarative Management protocol: SyncTokens, TokensResponse,
DeclarationItemsResponse. For now every device has the empty set, which clears what another server
may have left (declarative management cannot be switched off).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import Any

from services.configuration import metrics
from services.configuration.store import declarations as store
from services.configuration.store.declarations import DeclarationSet
from shared.db.pool import Pool

NOT_FOUND = 404


@dataclass(frozen=True)
class Answer:
    """What enrollment passes on; a body of None is an empty one."""

    status: int
    body: dict[str, Any] | None = None


class Declarations:
    """Answers the endpoints of a DeclarativeManagement check-in."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def answer(self, endpoint: str) -> Answer:
        """`tokens`, `declaration-items`, `status` or `declaration/<kind>/<identifier>`."""
        known = endpoint if endpoint in {"tokens", "declaration-items", "status"} else "other"
        metrics.DECLARATIONS_ASKED.labels(known).inc()
        if known == "status":
            return Answer(200)
        if known == "other":
            return Answer(NOT_FOUND)
        declared = await store.read(self._pool)
        return Answer(200, _tokens(declared) if endpoint == "tokens" else _items(declared))


def _tokens(declared: DeclarationSet) -> dict[str, Any]:
    stamp = declared.made_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"SyncTokens": {"DeclarationsToken": declared.token, "Timestamp": stamp}}


def _items(declared: DeclarationSet) -> dict[str, Any]:
    return {"Declarations": declared.items, "DeclarationsToken": declared.token}
