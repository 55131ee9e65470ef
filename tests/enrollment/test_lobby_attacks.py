"""Rogue enrollment: what an attacker tries, what leaves (nothing secret), what stays as it was.

security.md, "Rogue enrollment". The imitated device is compared row by row, before and after.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any
from uuid import UUID

import pytest

from shared.events.device_state import DeviceState
from shared.events.devices import (
    BootstrapTokenChanged,
    DeviceEnrolled,
    DeviceQuarantined,
    DeviceUnenrolled,
    UserChannelOpened,
)
from tests.enrollment.conftest import Apple, House
from tests.enrollment.test_lobby import decide, impostor, stranger, waits
from tests.enrollment.test_quarantine import impostor_of
from tools.simulator.wire import scep

SECRETS = {"Token": b"real push token", "PushMagic": "real magic", "UnlockToken": b"real unlock"}
BOOTSTRAP = b"real bootstrap token"
ROWS = (
    "SELECT * FROM enrollment WHERE enrollment_id = $1",
    "SELECT * FROM channel WHERE enrollment_id = $1 ORDER BY channel_id",
    "SELECT * FROM certificate WHERE enrollment_id = $1 ORDER BY sha256",
    "SELECT device.* FROM device WHERE current_enrollment = $1",
    "SELECT * FROM fence WHERE enrollment_id = $1",
)


class Victim:
    """An enrolled Mac with all its secrets, and what is stored of it."""

    def __init__(self, house: House, device: Apple, enrollment_id: UUID) -> None:
        self.house, self.device, self.enrollment_id = house, device, enrollment_id

    @classmethod
    async def of(cls, house: House) -> Victim:
        device = house.device(product="Mac15,3")
        device.identity = await house.identity(await house.credential())
        for message in (
            device.authenticate(),
            device.token_update(**SECRETS),
            device.message("SetBootstrapToken", BootstrapToken=BOOTSTRAP),
        ):
            assert (await house.check_in(device, message)).status == 200
        return cls(house, device, (await house.told()).enrollment.enrollment_id)

    async def rows(self) -> list[Any]:
        return [
            [tuple(row) for row in await self.house.query(sql, self.enrollment_id)] for sql in ROWS
        ]

    async def works(self) -> None:
        """It is served as ever, and gets its own token back."""
        answer = await self.house.check_in(self.device, self.device.token_update(**SECRETS))
        assert answer.status == 200
        asked = await self.house.check_in(self.device, self.device.message("GetBootstrapToken"))
        assert b"cmVhbCBib290c3RyYXAgdG9rZW4" in asked.body.replace(b"\n", b"").replace(b"\t", b"")


@pytest.fixture
async def victim(house: House) -> Victim:
    return await Victim.of(house)


EVERYTHING: tuple[tuple[str, dict[str, Any]], ...] = (
    ("TokenUpdate", {"Token": b"evil", "PushMagic": "evil", "UnlockToken": b"evil", "Topic": "x"}),
    (
        "TokenUpdate",
        {
            "Token": b"evil",
            "PushMagic": "evil",
            "Topic": "x",
            "UserID": "ADA",
            "UserShortName": "ada",
        },
    ),
    ("SetBootstrapToken", {"BootstrapToken": b"evil"}),
    ("SetBootstrapToken", {}),
    ("GetBootstrapToken", {}),
    ("DeclarativeManagement", {"Endpoint": "tokens"}),
    ("DeclarativeManagement", {"Endpoint": "declaration-items"}),
    ("DeclarativeManagement", {"Endpoint": "declaration/configuration/x"}),
    ("GetToken", {"TokenServiceType": "com.apple.maid", "TokenParameters": {}}),
    ("UserAuthenticate", {"UserID": "ADA"}),
    ("ReturnToService", {}),
)


async def test_a_clone_changes_nothing_of_the_device_and_is_told_nothing(
    house: House, victim: Victim
) -> None:
    """The same UDID and serial, a certificate of ours, and every message there is."""
    before = await victim.rows()
    clone, _ = await impostor(house, victim.device)
    await house.told()
    heard = b""
    for kind, more in EVERYTHING:
        answer = await house.check_in(clone, clone.message(kind, **more))
        assert answer.status in (200, 400, 404, 410), kind
        heard += answer.body
    assert (await house.check_in(clone, clone.authenticate())).status == 200
    told = await house.told()
    for model in (DeviceEnrolled, DeviceUnenrolled, BootstrapTokenChanged, UserChannelOpened):
        assert not told.of(model), model
    assert b"real" not in heard
    assert b"evil" not in heard
    assert b"cmVhb" not in heard  # "real", as property lists write it
    for state in told.of(DeviceState):
        [waiting] = [one for one in state.enrollments if one.state == "quarantined"]
        assert {(one.open, one.push, one.unlock_token) for one in waiting.channels} <= {
            (False, None, None)
        }
        assert state.current_enrollment == victim.enrollment_id
    assert [path for _, _, path, _ in house.others.calls if "declarations" in path] == []
    assert {one["enrollment_id"] for one in house.fences} & {str(victim.enrollment_id)} == set()
    assert await victim.rows() == before
    await victim.works()


async def test_a_clone_that_is_refused_and_comes_back_gets_no_further(
    house: House, victim: Victim
) -> None:
    before = await victim.rows()
    clone, enrollment_id = await impostor(house, victim.device)
    assert (await decide(house, enrollment_id, "refuse"))[0] == 200
    for kind, more in (("Authenticate", clone.authenticate()), *EVERYTHING):
        answer = await house.check_in(clone, clone.message(kind) | more)
        assert (answer.status, answer.text) == (400, "certificate_revoked\n"), kind
    clone.identity = await house.identity(await house.credential())
    await waits(house, clone)
    [again] = (await house.call("GET", "/lobby"))["items"]
    assert again["reasons"] == ["refused_before", "hardware_known"]
    assert again["score"] == 100
    assert await victim.rows() == before
    await victim.works()


async def test_who_waits_renews_nothing(house: House, victim: Victim) -> None:
    """SCEP: a certificate that waits buys no other one."""
    clone, _ = await impostor(house, victim.device)
    document = await house.profile(await house.credential())
    url = next(
        payload["PayloadContent"]["URL"]
        for payload in document["PayloadContent"]
        if payload["PayloadType"].endswith(".scep")
    )
    with pytest.raises(Exception, match="refused"):
        await house.issue(url.removeprefix("https://mdm.example.org"), None, signer=clone.identity)


async def test_one_use_buys_one_profile_from_fifty_at_once(house: House) -> None:
    path = await house.credential()
    answers = await asyncio.gather(*(house.device_get(path) for _ in range(50)))
    assert sorted(one.status for one in answers) == [200] + [403] * 49
    assert len(await house.query("SELECT FROM session")) == 1


async def test_one_challenge_buys_one_certificate_from_fifty_at_once(house: House) -> None:
    document = await house.profile(await house.credential())
    keys = [house.new_key() for _ in range(10)]

    async def one(number: int) -> bool:
        payload = next(p for p in document["PayloadContent"] if p["PayloadType"].endswith(".scep"))
        content = payload["PayloadContent"]
        path = content["URL"].removeprefix("https://mdm.example.org")
        try:
            await house.issue(path, content["Challenge"], keys[number % len(keys)])
        except scep.ScepRefused:
            return False
        return True

    answers = await asyncio.gather(*(one(number) for number in range(50)))
    certificates = await house.query("SELECT sha256 FROM certificate WHERE session_id IS NOT NULL")
    assert len(certificates) == 1
    assert sum(answers) == 5  # the one key that won, each time it asked
    [session] = await house.query("SELECT suspicions FROM session")
    assert session["suspicions"] == ["challenge_reused"]


async def test_guesses_open_nothing_and_leave_nothing(house: House) -> None:
    before = await house.query("SELECT count(*) FROM outbox")
    guesses = [secrets.token_urlsafe(24) for _ in range(30)] + ["", "'", "%00", "a" * 199, "🔑"]
    for guess in guesses:
        answer = await house.device_get(f"/enroll/apple/{guess}")
        assert answer.status in (403, 404)
        assert b"plist" not in answer.body
    for guess in guesses[:3]:
        answer = await house.device_get(f"/scep/{guess}?operation=PKIOperation")
        assert answer.status == 400
    assert await house.query("SELECT count(*) FROM outbox") == before
    assert not await house.query("SELECT FROM session")
    assert not await house.query("SELECT FROM credential_address")


async def test_many_clones_at_once_leave_one_device(house: House, victim: Victim) -> None:
    before = await victim.rows()
    clones = [await impostor_of(house, victim.device) for _ in range(6)]
    answers = await asyncio.gather(*(house.check_in(one, one.authenticate()) for one in clones))
    assert {answer.status for answer in answers} == {200}
    assert len((await house.told()).of(DeviceQuarantined)) == 6
    assert (await house.call("GET", "/lobby/counts"))["waiting"] == 6
    assert await victim.rows() == before
    assert len(await house.query("SELECT FROM device")) == 1


async def test_a_squatter_on_a_name_keeps_its_owner_out_of_nothing(house: House) -> None:
    """Who waits under the UDID of a device that comes later displaces and delays nobody."""
    squatter, _ = await stranger(house)
    owner = Apple(squatter.udid, squatter.serial)
    await house.call("POST", "/serials", {"serials": [owner.serial]})
    owner.identity = await house.identity(await house.credential(serials="listed"))
    for message in (owner.authenticate(), owner.token_update()):
        assert (await house.check_in(owner, message)).status == 200
    told = await house.told()
    assert told.one(DeviceEnrolled).serial == owner.serial
    assert (await house.check_in(squatter, squatter.token_update())).status == 200
    assert (await house.told()).enrollment.enrollment_id == told.enrollment.enrollment_id


async def test_a_listed_serial_of_an_enrolled_device_opens_nothing(
    house: House, victim: Victim
) -> None:
    """Serials are printed on the back: the list lets hardware in that is new, and no copy of it."""
    await house.call("POST", "/serials", {"serials": [victim.device.serial]})
    before = await victim.rows()
    thief = house.device(serial=victim.device.serial)  # another UDID, the serial of the victim
    thief.identity = await house.identity(await house.credential(serials="listed"))
    await waits(house, thief)
    [row] = (await house.call("GET", "/lobby"))["items"]
    assert row["reasons"] == ["hardware_known"]
    assert await victim.rows() == before
    await victim.works()
