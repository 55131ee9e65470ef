"""People with keys, as the console tells of them and as their browsers answer."""

from __future__ import annotations

import base64
import plistlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from shared.events.access import AccountState, ApproverKey, HeldRole
from shared.runtime.testing import Answer
from tests.command_queue.fleet import Fleet
from tests.console.authenticator import Authenticator

API = "/api/v1/commands"
RIGHTS = ["command.approve", "guard.unfreeze"]


@dataclass
class Person:
    fleet: Fleet
    since: datetime
    account_id: UUID = field(default_factory=uuid4)
    key: Authenticator = field(default_factory=lambda: Authenticator(credential_id=uuid4().bytes))
    via: str = "session:one"

    @property
    def actor(self) -> str:
        return f"account:{self.account_id}"

    def state(self, **fields: Any) -> AccountState:
        role = HeldRole(role_id="owner", permissions=RIGHTS, since=self.since)
        key = ApproverKey(
            passkey_id=uuid4(),
            credential_id=self.key.credential_id,
            public_key=self.key.public_key,
            since=self.since,
        )
        told: dict[str, Any] = {
            "account_id": self.account_id,
            "name": "Ada",
            "disabled": False,
            "created_at": self.since,
            "reset_at": None,
            "roles": [role],
            "keys": [key],
        }
        return AccountState(**{**told, **fields})

    async def tell(self, **fields: Any) -> None:
        await self.fleet.trial.hears(self.state(**fields), service="console")

    async def offer(self, command_id: str) -> Any:
        answer = await self._call("GET", f"{API}/{command_id}/approval")
        assert answer.status == 200, answer.body
        return answer.json

    async def approve(self, command_id: str, offer: Any = None, **changed: Any) -> Answer:
        """Answer an offer with the key; without options any challenge will do."""
        offer = offer or await self.offer(command_id)
        challenge = {"challenge": "AAAA"}
        body = {
            "approval_expires_at": offer["approval_expires_at"],
            "credential": self.key.get(offer["options"] or challenge),
            **changed,
        }
        return await self._call("POST", f"{API}/{command_id}/approval", body)

    async def lift(self, freeze_id: str, offer: Any = None) -> Answer:
        """Give one's word that a freeze may end."""
        path = f"{API}/freeze/{freeze_id}/lift"
        offer = offer or (await self._call("GET", path)).json
        body = {
            "approval_expires_at": offer["approval_expires_at"],
            "credential": self.key.get(offer["options"] or {"challenge": "AAAA"}),
        }
        return await self._call("POST", path, body)

    async def reject(self, command_id: str) -> Answer:
        return await self._call("POST", f"{API}/{command_id}/reject", {"reason": "no"})

    async def _call(self, method: str, path: str, body: Any = None) -> Answer:
        return await self.fleet.trial.call(method, path, body, actor=self.actor, via=self.via)


def profile(payload_type: str, **keys: Any) -> dict[str, str]:
    """Parameters of configuration.install with one payload."""
    named = {"PayloadVersion": 1, "PayloadIdentifier": "org.example", "PayloadUUID": "U"}
    payload = {"PayloadType": payload_type, **named, **keys}
    whole = {"PayloadType": "Configuration", "PayloadContent": [payload], **named}
    return {"profile": base64.b64encode(plistlib.dumps(whole)).decode()}


async def aged(fleet: Fleet, number: int) -> list[Person]:
    """People who held all of it for long."""
    people = [Person(fleet, fleet.clock.now()) for _ in range(number)]
    for person in people:
        await person.tell()
    fleet.clock.advance(timedelta(hours=73))
    return people
