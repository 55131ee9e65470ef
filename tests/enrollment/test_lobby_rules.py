"""Who waits in the lobby, by each rule (docs/decisions/0056-who-waits-in-the-lobby.md)."""

from __future__ import annotations

import asyncio
import base64
import plistlib
from urllib.parse import urlsplit

import aiohttp
import pytest

from services.enrollment import addresses, suspicions
from services.enrollment.lifecycle import Claim, decide
from services.enrollment.settings import EnrollmentSettings
from services.enrollment.store.pins import Signs
from shared.events.devices import DeviceEnrolled, DeviceQuarantined
from tests.enrollment.conftest import Apple, House, opened, payload_of
from tests.enrollment.test_lifecycle import grant, pin
from tests.enrollment.test_quarantine import impostor_of
from tools.simulator.wire import cms

LISTED = Signs(listed=True)


def test_every_rule_weighs_something_and_none_more_than_always() -> None:
    assert all(0 < weight <= suspicions.ALWAYS for weight in suspicions.WEIGHTS.values())
    assert suspicions.score([]) == 0
    assert suspicions.score(["serial_unlisted", "address_changed"]) == 60
    assert suspicions.score(["serial_unlisted", "serial_unlisted"]) == 50
    assert suspicions.score(suspicions.WEIGHTS) == suspicions.ALWAYS
    assert suspicions.score(["a rule of long ago"]) == suspicions.ALWAYS


def test_what_weighs_less_than_the_threshold_lets_in_without_a_reason() -> None:
    claim = Claim("udid", "UDID-1", "SERIAL1", "ios")
    assert decide(pin(), claim, [], threshold=51).kind == "first"
    assert decide(pin(), claim, [], threshold=51).reasons == ()
    waits = decide(pin(), claim, [], threshold=50)
    assert (waits.kind, list(waits.reasons)) == ("quarantine", ["serial_unlisted"])
    assert decide(pin(), claim, [], LISTED, 50).kind == "first"


def test_a_serial_that_a_person_named_needs_no_list() -> None:
    claim = Claim("udid", "UDID-1", "SERIAL1", "ios")
    refused = Signs(refused_before=True)
    assert decide(pin(given=grant("SERIAL1")), claim, [], refused, 1).kind == "first"


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.9", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        (None, None),
        ("a proxy", None),
    ],
)
def test_a_peer_is_counted_by_its_network(peer: str | None, counted: str | None) -> None:
    uncounted = EnrollmentSettings.model_fields["lobby_uncounted"].default
    assert addresses.source_of(peer, uncounted) == counted


async def waiting_with(house: House, device: Apple) -> list[str]:
    """The reasons this device is made to wait for; empty: it was let in."""
    await house.told()
    assert (await house.check_in(device, device.authenticate())).status == 200
    return sorted(
        reason for one in (await house.told()).of(DeviceQuarantined) for reason in one.reasons
    )


async def test_by_default_hardware_must_be_on_the_list(house: House) -> None:
    device = house.device()
    device.identity = await house.identity(await house.credential(serials="listed"))
    assert await waiting_with(house, device) == ["serial_unlisted"]
    other = house.device(serial="f2l-listed")
    await house.call("POST", "/serials", {"serials": ["F2L-Listed"]})
    other.identity = await house.identity(await house.credential(serials="listed"))
    assert await waiting_with(house, other) == []
    assert (await house.check_in(other, other.token_update())).status == 200
    assert (await house.told()).one(DeviceEnrolled).serial == other.serial


async def test_a_credential_says_listed_unless_its_maker_says_any(house: House) -> None:
    made = await house.call("POST", "/credentials", {})
    assert made["serials"] == "listed"
    answer = await house.service.call("POST", "/api/v1/enrollment/credentials", {"serials": "all"})
    assert answer.status == 422


async def test_who_tells_no_serial_waits(house: House) -> None:
    device = house.device(serial=None)
    device.identity = await house.identity(await house.credential(serials="listed"))
    assert await waiting_with(house, device) == ["serial_untold"]


async def test_a_waiting_device_is_shown_with_score_and_credential(house: House) -> None:
    device = house.device()
    device.identity = await house.identity(await house.credential(serials="listed"))
    await house.check_in(device, device.authenticate())
    event = (await house.told()).one(DeviceQuarantined)
    [row] = await house.query("SELECT * FROM lobby")
    assert (event.score, row["score"], row["reasons"]) == (50, 50, ["serial_unlisted"])
    assert row["credential_id"] == event.credential_id is not None
    assert (row["decision"], row["udid"]) == (None, device.udid)
    assert (row["expires_at"] - row["waits_since"]).days == 7


async def test_known_hardware_with_a_new_certificate_always_waits(house: House) -> None:
    device = await house.enrolled()
    await house.call("POST", "/serials", {"serials": [device.serial]})
    impostor = await impostor_of(house, device, serials="listed")
    assert await waiting_with(house, impostor) == ["hardware_known"]


async def test_a_profile_that_two_keys_were_tried_with_is_suspicious(house: House) -> None:
    document = await house.profile(await house.credential())
    device = house.device()
    device.identity = await house.identity_of(document)
    with pytest.raises(Exception, match="refused"):
        await house.identity_of(document)  # somebody who copied the profile, with a key of theirs
    assert await waiting_with(house, device) == ["challenge_reused"]


class Elsewhere:
    """Devices that speak from addresses of their own: 127.0.0.0/8 holds enough of them."""

    def __init__(self, house: House) -> None:
        self.house = house

    async def send(
        self,
        address: str,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        connector = aiohttp.TCPConnector(local_addr=(address, 0))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(
                method, self.house.address + path, data=body, headers=headers
            ) as response,
        ):
            return response.status, await response.read()

    async def status(self, address: str, path: str, **headers: str) -> int:
        return (await self.send(address, "GET", path, headers=headers))[0]

    async def device(self, address: str, path: str, **headers: str) -> Apple:
        """A new device with an identity; its profile was fetched from this address."""
        status, body = await self.send(address, "GET", path, headers=headers)
        assert status == 200, body
        device = self.house.device()
        device.identity = await self.house.identity_of(opened(body))
        return device

    async def reasons(self, address: str, device: Apple) -> list[str]:
        """Why it waits when it authenticates from there; empty: it was let in."""
        await self.house.told()
        body = plistlib.dumps(device.authenticate())
        assert device.identity is not None
        signature = base64.b64encode(cms.sign(body, [device.identity], device.style)).decode()
        given = {"Mdm-Signature": signature}
        status, _ = await self.send(address, "PUT", "/mdm/apple/checkin", body, given)
        assert status == 200
        told = (await self.house.told()).of(DeviceQuarantined)
        return sorted(reason for one in told for reason in one.reasons)


@pytest.fixture
async def elsewhere(outer_house: House) -> Elsewhere:
    return Elsewhere(outer_house)


async def test_too_many_from_one_address_wait_and_others_do_not(elsewhere: Elsewhere) -> None:
    house = elsewhere.house  # three profiles an hour
    path = await house.credential(max_uses=10)
    at_limit = [await elsewhere.device("127.0.0.2", path) for _ in range(3)]
    beyond = await elsewhere.device("127.0.0.2", path)
    another = await elsewhere.device("127.0.0.3", path)
    for device in at_limit:
        assert await elsewhere.reasons("127.0.0.2", device) == []
    assert await elsewhere.reasons("127.0.0.2", beyond) == ["address_crowded"]
    assert await elsewhere.reasons("127.0.0.3", another) == []
    house.later(hours=1, seconds=1)
    later = await elsewhere.device("127.0.0.2", path)
    assert await elsewhere.reasons("127.0.0.2", later) == []


async def test_the_limit_of_an_address_holds_over_all_credentials(elsewhere: Elsewhere) -> None:
    paths = [await elsewhere.house.credential() for _ in range(4)]
    devices = [await elsewhere.device("127.0.0.2", path) for path in paths]
    told = [await elsewhere.reasons("127.0.0.2", device) for device in devices]
    assert told == [[], [], [], ["address_crowded"]]


async def test_a_header_moves_nobody_to_another_address(elsewhere: Elsewhere) -> None:
    path = await elsewhere.house.credential(max_uses=9)
    for number in range(3):
        await elsewhere.status("127.0.0.2", path, **{"X-Forwarded-For": f"192.0.2.{number}"})
    forged = {"X-Forwarded-For": "192.0.2.9", "Forwarded": "for=192.0.2.9", "X-Real-IP": "1.2.3.4"}
    device = await elsewhere.device("127.0.0.2", path, **forged)
    assert await elsewhere.reasons("127.0.0.2", device) == ["address_crowded"]
    [row] = await elsewhere.house.query("SELECT handed_to, address FROM lobby")
    assert (row["handed_to"], row["address"]) == ("127.0.0.2", "127.0.0.2")


async def test_a_credential_used_from_many_addresses_is_suspicious(elsewhere: Elsewhere) -> None:
    path = await elsewhere.house.credential(max_uses=9)  # four other addresses are too many
    devices = [await elsewhere.device(f"127.0.0.{number}", path) for number in range(2, 8)]
    told = [
        await elsewhere.reasons(f"127.0.0.{number}", device)
        for number, device in enumerate(devices, 2)
    ]
    assert told == [[], [], [], [], ["credential_spread"], ["credential_spread"]]


async def test_a_spent_credential_asked_for_from_elsewhere_has_leaked(elsewhere: Elsewhere) -> None:
    path = await elsewhere.house.credential()
    first = await elsewhere.device("127.0.0.2", path)
    assert await elsewhere.status("127.0.0.9", path) == 403
    assert await elsewhere.reasons("127.0.0.2", first) == ["credential_reused"]
    [listed] = (await elsewhere.house.call("GET", "/credentials"))["items"]
    assert listed["leaked_at"] is not None


async def test_who_asks_twice_from_the_same_place_is_no_thief(elsewhere: Elsewhere) -> None:
    """A page that is loaded again must not cost a device its enrollment."""
    path = await elsewhere.house.credential()
    first = await elsewhere.device("127.0.0.2", path)
    assert await elsewhere.status("127.0.0.2", path) == 403
    assert await elsewhere.reasons("127.0.0.2", first) == []


async def test_another_address_alone_is_no_reason_but_adds_to_one(elsewhere: Elsewhere) -> None:
    """From the Wi-Fi to the mobile network is the usual way."""
    device = await elsewhere.device("127.0.0.2", await elsewhere.house.credential())
    assert await elsewhere.reasons("127.0.0.3", device) == []
    path = await elsewhere.house.credential(serials="listed")
    device = await elsewhere.device("127.0.0.2", path)
    assert await elsewhere.reasons("127.0.0.3", device) == ["address_changed", "serial_unlisted"]
    [row] = await elsewhere.house.query("SELECT score, handed_to, address FROM lobby")
    assert tuple(row) == (60, "127.0.0.2", "127.0.0.3")


async def test_asking_in_vain_fills_no_table(elsewhere: Elsewhere) -> None:
    path = await elsewhere.house.credential()
    await elsewhere.device("127.0.0.2", path)
    await elsewhere.house.query(
        "INSERT INTO credential_address (credential_id, address, refused, first_at, last_at) "
        "SELECT credential_id, 'x' || n, 1, now(), now() FROM credential, "
        "generate_series(1, 999) AS n"
    )
    await asyncio.gather(*(elsewhere.status(f"127.0.1.{n}", path) for n in range(1, 9)))
    [count] = await elsewhere.house.query("SELECT count(*) FROM credential_address")
    assert count["count"] == 1000


async def test_guessing_is_slowed_down_by_address_and_nobody_is_locked_out(
    elsewhere: Elsewhere,
) -> None:
    house = elsewhere.house
    path = await house.credential(max_uses=9)
    forged = {"X-Forwarded-For": "192.0.2.1"}
    guesses = [await elsewhere.status("127.0.0.9", f"/enroll/apple/{n}") for n in range(30)]
    assert set(guesses) == {403}
    for asked in ("/enroll/apple/x", path):
        assert await elsewhere.status("127.0.0.9", asked, **forged) == 429
    assert await elsewhere.status("127.0.0.2", path) == 200  # elsewhere nobody waits
    house.later(seconds=1)
    assert await elsewhere.status("127.0.0.9", "/enroll/apple/y") == 403
    house.later(seconds=1)
    assert await elsewhere.status("127.0.0.9", path) == 429  # two seconds now
    house.later(seconds=1)
    assert await elsewhere.status("127.0.0.9", path) == 200
    house.later(minutes=16)
    assert await elsewhere.status("127.0.0.9", "/enroll/apple/z") == 403
    assert await elsewhere.status("127.0.0.9", path) == 200


async def test_the_challenge_of_a_waiting_device_stays_its_own(house: House) -> None:
    """The profile itself holds what enrolling needs, and nothing for what comes after."""
    document = await house.profile(await house.credential(serials="listed"))
    kinds = {payload["PayloadType"] for payload in document["PayloadContent"]}
    assert kinds == {"com.apple.mdm", "com.apple.security.scep"}
    url = payload_of(document, "com.apple.security.scep")["PayloadContent"]["URL"]
    assert urlsplit(url).path.startswith("/scep/")
