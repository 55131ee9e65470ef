"""People and their programs: they ask for commands, repeat what was not answered, cancel, freeze
and lift.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random
from typing import Any

import aiohttp

from tests.chaos.storm.holders import Holder
from tests.chaos.storm.ledger import Asked, Frozen, Ledger, now
from tests.chaos.storm.stage import Stage

SECTIONS = ("device_information", "security", "applications", "profiles", "certificates")
_TIMEOUT = aiohttp.ClientTimeout(total=8)
_PATIENCE = 0.5
_COMMANDS = "/api/v1/commands"


class Refused(Exception):  # noqa: N818 - what a person is told
    """An answer that no repetition changes."""

    def __init__(self, said: str, status: int) -> None:
        super().__init__(said)
        self.status = status


@dataclass
class People:
    """Everybody who uses the API of commands; `pace` is the mean pause between two requests."""

    stage: Stage
    session: aiohttp.ClientSession
    ledger: Ledger
    chance: Random
    devices: Sequence[str]
    holders: Sequence[Holder]
    """Two people whose keys lift freezes."""
    pace: float = 0.5
    _asking: set[asyncio.Task[None]] = field(default_factory=set)
    _number: int = 0

    async def work(self) -> None:
        """Ask for one thing after the other until cancelled; requests may overlap."""
        while True:
            draw = self.chance.random()
            if draw < 0.06:
                self._begin(self._freeze())
            else:
                self._begin(self._ask())
            await asyncio.sleep(self.chance.expovariate(1 / self.pace))

    async def finish(self) -> None:
        """Until everything that was asked for is answered."""
        while self._asking:
            await asyncio.wait(self._asking)

    def leave(self) -> None:
        """Ask no more, also not for what was not answered."""
        for task in self._asking:
            task.cancel()

    def _begin(self, doing: Any) -> None:
        task = asyncio.create_task(doing)
        self._asking.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.ledger.violated(f"a request failed for good: {error!r}")

    async def _ask(self) -> None:
        body = self._body()
        asked = self.ledger.asks(
            body["idempotency_key"], body["kind"], body["device_ids"], body["expires_in_seconds"]
        )
        self.ledger.accepted(asked, await self._until_answered("POST", _COMMANDS, json=body))
        if self.chance.random() < 0.15:
            self.ledger.accepted(asked, await self._until_answered("POST", _COMMANDS, json=body))
        if self.chance.random() < 0.15:
            await asyncio.sleep(self.chance.uniform(0, 3))
            await self.cancel(asked)

    def _body(self) -> dict[str, Any]:
        self._number += 1
        draw = self.chance.random()
        count = 1 if draw < 0.6 else self.chance.randint(2, 6) if draw < 0.9 else len(self.devices)
        kind, params = self._kind()
        if kind == "device.erase":
            count = 1
        return {
            "kind": kind,
            "params": params,
            "device_ids": self.chance.sample(list(self.devices), count),
            "idempotency_key": f"storm {self._number}",
            "reason": "storm",
            "priority": self.chance.choice([0, 0, 0, 5, -5]),
            "expires_in_seconds": self.chance.choice([60, 3600, 3600, 3600]),
        }

    def _kind(self) -> tuple[str, dict[str, Any]]:
        draw = self.chance.random()
        if draw < 0.02:
            return "device.erase", {"pin": "123456"}
        if draw < 0.17:
            return "device.restart", {}
        return "inventory.refresh", {"section": self.chance.choice(SECTIONS)}

    async def cancel(self, asked: Asked) -> None:
        """From its answer on nothing of the command is handed out, whichever answer it is."""
        path = f"{_COMMANDS}/{asked.command_id}/cancel"
        asked.cancel_began = now()
        await self._until_answered("POST", path, json={"reason": "storm"})
        asked.cancelled = now()
        self.ledger.counts["commands cancelled"] += 1

    async def _freeze(self) -> None:
        chosen = self.chance.choice(["harmless", "disruptive"])
        body = {"command_class": chosen, "reason": "storm"}
        begun = await self._until_answered("POST", f"{_COMMANDS}/freeze", json=body)
        frozen = Frozen(begun["freeze_id"], chosen, now())
        self.ledger.freezes.append(frozen)
        self.ledger.counts["freezes"] += 1
        await asyncio.sleep(self.chance.uniform(0.5, 4))
        await self._lift(frozen)

    async def _lift(self, frozen: Frozen) -> None:
        """By the keys of two people, who try until it is lifted: an answer may be lost, and a clock
        that is wrong just now makes them too young.
        """
        frozen.lifting = now()
        path = f"{_COMMANDS}/freeze/{frozen.freeze_id}/lift"
        lifted = False
        while not lifted:
            # The word of one may count no more when the other's comes: both say it again.
            words = [await self._gives_word(holder, path) for holder in self.holders]
            lifted = any(words)
            await asyncio.sleep(0 if lifted else _PATIENCE)

    async def _gives_word(self, holder: Holder, path: str) -> bool:
        """Whether it is lifted."""
        try:
            offer = await self._once("GET", path, headers=holder.headers)
            if offer["options"] is None:
                return False
            answer = holder.answer(offer)
            given = await self._once("POST", path, json=answer, headers=holder.headers)
        except Refused as refused:
            # 404: it was lifted, and the answer was lost.
            return refused.status == HTTPStatus.NOT_FOUND
        except (aiohttp.ClientError, TimeoutError):
            self.ledger.counts["requests without an answer"] += 1
            return False
        return bool(given["lifted"])

    async def lift_all(self) -> None:
        """Lift also freezes whose answer was lost: nobody knows their names."""
        standing = await self._until_answered("GET", f"{_COMMANDS}/freeze")
        for one in standing["items"]:
            await self._lift(Frozen(one["freeze_id"], one["command_class"], now()))

    async def cancel_held(self) -> None:
        for asked in list(self.ledger.commands.values()):
            if asked.held and asked.cancelled > now():
                await self.cancel(asked)

    async def _until_answered(self, method: str, path: str, **more: Any) -> Any:
        """Ask again until there is an answer; raises Refused for one that stays the same."""
        while True:
            try:
                return await self._once(method, path, **more)
            except (aiohttp.ClientError, TimeoutError):
                self.ledger.counts["requests without an answer"] += 1
                await asyncio.sleep(_PATIENCE)

    async def _once(self, method: str, path: str, **more: Any) -> Any:
        token = self.stage.token("command_queue")
        headers = more.pop("headers", {"Authorization": f"Bearer {token}"})
        url = self.stage.api_url + path
        async with self.session.request(
            method, url, headers=headers, timeout=_TIMEOUT, **more
        ) as answer:
            if answer.ok:
                return await answer.json()
            said = f"{method} {path}: {answer.status} {await answer.text()}"
            # 401: its clock is wrong just now. 5xx: a server is away.
            if answer.status == 401 or answer.status >= 500:
                if answer.status not in (401, 503):
                    self.ledger.counts[f"api answered {answer.status}"] += 1
                raise aiohttp.ClientError(said)
            raise Refused(said, answer.status)
