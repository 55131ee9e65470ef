"""Two people with keys, who let frozen commands go on: made as the console makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from services.console import access
from services.console.store import accounts, factors
from shared.db.pool import open_pool, transaction
from shared.events import uuid7
from shared.runtime.clock import SystemClock
from shared.runtime.tokens import Signer
from shared.sealed import token_key
from tests.chaos.storm.stage import CONSOLE_URL, Stage
from tests.console.authenticator import Authenticator

_KNOWN = "SELECT count(*) AS known FROM approver_key WHERE account_id = $1"


@dataclass
class Holder:
    """`headers` are those of a session; `answer` signs what is offered."""

    stage: Stage
    account_id: UUID = field(default_factory=uuid7)
    key: Authenticator = field(
        default_factory=lambda: Authenticator(origin=CONSOLE_URL, credential_id=uuid4().bytes)
    )

    @property
    def headers(self) -> dict[str, str]:
        kid, key = token_key(self.stage.home.keys / "console")
        signer = Signer("console", key, kid, SystemClock())
        token = signer.access(
            f"account:{self.account_id}",
            "command_queue",
            ["guard.unfreeze"],
            timedelta(minutes=15),
            via="session:storm",
        )
        return {"Authorization": f"Bearer {token}"}

    def answer(self, offer: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "approval_expires_at": offer["approval_expires_at"],
            "credential": self.key.get(offer["options"]),
        }


async def appoint(stage: Stage, number: int) -> list[Holder]:
    """Owners with a key, of whom command_queue has heard; in this storm power does not wait."""
    holders = [Holder(stage) for _ in range(number)]
    pool = await open_pool(stage.running.services["console"].database_url, name="storm", max_size=2)
    try:
        for holder in holders:
            await _add(pool, holder)
    finally:
        await pool.close()
    for holder in holders:
        while not (await stage.query("command_queue", _KNOWN, holder.account_id))[0]["known"]:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    return holders


async def _add(pool: Any, holder: Holder) -> None:
    now, account_id = datetime.now(UTC), holder.account_id
    async with transaction(pool) as tx:
        await accounts.add(tx, account_id, "Holder", f"{account_id}@example.org", now)
        await accounts.grant(tx, uuid7(), account_id, "owner", None, now, "storm")
        await factors.add_key(tx, account_id, holder.key.kept(now))
        await access.tell(tx, account_id)
