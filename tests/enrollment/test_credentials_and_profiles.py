"""Credentials by API, and the profiles they buy."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from shared.events.audit import AuditRecorded
from shared.events.devices import EnrollmentRefused
from tests.enrollment.conftest import API, TOPIC, House, opened, payload_of

PROFILE_TYPE = "application/x-apple-aspen-config"
CREDENTIALS = f"{API}/credentials"


async def test_the_profile_says_all_that_a_device_needs(house: House) -> None:
    """apple.md §1.5: every key that is named as required."""
    answer = await house.device_get(await house.credential())
    assert answer.headers["Content-Type"] == PROFILE_TYPE
    assert not answer.body.startswith(b"<")  # signed unless asked otherwise
    document = opened(answer.body)
    mdm, identity = (payload_of(document, f"com.apple.{kind}") for kind in ("mdm", "security.scep"))
    assert mdm["IdentityCertificateUUID"] == identity["PayloadUUID"]
    assert mdm["Topic"] == TOPIC
    assert mdm["ServerURL"] == "https://mdm.example.org/mdm/apple/connect"
    assert mdm["CheckInURL"] == "https://mdm.example.org/mdm/apple/checkin"
    assert mdm["SignMessage"] is mdm["CheckOutWhenRemoved"] is True
    assert mdm["AccessRights"] == 8191
    assert "com.apple.mdm.bootstraptoken" in mdm["ServerCapabilities"]
    scep = identity["PayloadContent"]
    assert scep["URL"] == f"https://mdm.example.org/scep/{scep['Challenge']}"
    assert (scep["Keysize"], scep["Key Type"]) == (2048, "RSA")
    for payload in (document, mdm, identity):
        assert {"PayloadType", "PayloadVersion", "PayloadIdentifier", "PayloadUUID"} <= set(payload)


async def test_who_was_handed_a_profile_is_audited(house: House) -> None:
    path = await house.credential()
    await house.told()
    await house.profile(path)
    audit = (await house.told()).one(AuditRecorded)
    [row] = await house.query("SELECT credential_id FROM credential")
    assert audit.actor == f"credential:{row['credential_id']}"
    assert (audit.action, audit.source) == ("profile.hand_out", "127.0.0.1")


async def test_each_profile_has_a_challenge_of_its_own(house: House) -> None:
    path = await house.credential(max_uses=2)
    first, second = [await house.profile(path) for _ in range(2)]
    assert payload_of(first, "com.apple.security.scep") != payload_of(
        second, "com.apple.security.scep"
    )


async def test_a_use_counts_once_however_many_ask_at_once(house: House) -> None:
    path = await house.credential(max_uses=3)
    answers = await asyncio.gather(*(house.device_get(path) for _ in range(12)))
    assert sorted(answer.status for answer in answers) == [200] * 3 + [403] * 9
    refused = (await house.told()).of(EnrollmentRefused)
    assert [one.reason for one in refused] == ["credential_spent"]  # told once, not nine times


async def test_an_expired_credential_buys_nothing(house: House) -> None:
    path = await house.credential()
    house.later(days=8)
    answer = await house.device_get(path)
    assert (answer.status, answer.text) == (403, "credential_expired\n")
    assert (await house.told()).one(EnrollmentRefused).stage == "profile"


async def test_a_stranger_is_refused_without_an_event(house: House) -> None:
    for token in ("nobody-made-this", "x" * 500):
        answer = await house.device_get(f"/enroll/apple/{token}")
        assert (answer.status, answer.text) == (403, "credential_unknown\n")
    assert not (await house.told()).events


async def test_a_revoked_credential_buys_nothing_any_more(house: House) -> None:
    """Neither a profile, nor a certificate for one handed out before, nor an enrollment."""
    path = await house.credential(max_uses=9)
    [listed] = (await house.call("GET", "/credentials"))["items"]
    asked = await house.profile(path)
    ready = house.device()
    ready.identity = await house.identity(path)
    await house.call("DELETE", f"/credentials/{listed['credential_id']}")
    answer = await house.device_get(path)
    assert (answer.status, answer.text) == (403, "credential_revoked\n")
    with pytest.raises(Exception, match="refused"):
        await house.identity_of(asked)
    answer = await house.check_in(ready, ready.authenticate())
    assert (answer.status, answer.text) == (400, "credential_revoked\n")


async def test_an_unsigned_profile_only_where_the_credential_allows(house: House) -> None:
    path = await house.credential(max_uses=2)
    answer = await house.device_get(f"{path}?unsigned=1")
    assert (answer.status, answer.text) == (403, "unsigned_not_allowed\n")
    path = await house.credential(unsigned_allowed=True)
    answer = await house.device_get(f"{path}?unsigned=1")
    assert (answer.status, answer.headers["Content-Type"]) == (200, PROFILE_TYPE)
    assert answer.body.startswith(b"<?xml")


async def test_the_token_is_shown_once_and_never_kept(house: House) -> None:
    made = await house.call("POST", "/credentials", {"name": "for ada"}, actor="ada")
    token = urlsplit(made["enroll_url"]).path.rsplit("/", 1)[-1]
    assert made["enroll_url"].startswith("https://mdm.example.org/enroll/apple/")
    listed = await house.call("GET", "/credentials")
    told = await house.told()
    rows = await house.query("SELECT * FROM credential")
    assert token not in repr(listed) + repr(told) + repr(rows)
    audit = told.one(AuditRecorded)
    assert (audit.actor, audit.action) == ("ada", "credential.create")
    assert listed["items"][0]["created_by"] == "ada"


async def test_credentials_are_listed_page_by_page(house: House) -> None:
    for number in range(5):
        house.later(seconds=1)
        await house.credential(name=f"c{number}")
    seen: list[str] = []
    cursor = ""
    while True:
        page = await house.call("GET", f"/credentials?limit=2{cursor}")
        seen += [one["name"] for one in page["items"]]
        if not page["next"]:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == ["c4", "c3", "c2", "c1", "c0"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"max_uses": 0},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "2990-01-01T00:00:00Z"},
        {"ownership": "borrowed"},
        {"nonsense": 1},
    ],
)
async def test_a_credential_that_cannot_be_is_refused(
    house: House, wanted: dict[str, object]
) -> None:
    answer = await house.service.call("POST", CREDENTIALS, wanted)
    assert answer.status == 422
    assert not await house.query("SELECT FROM credential")


async def test_credentials_need_their_permission(house: House) -> None:
    answer = await house.service.call("POST", CREDENTIALS, {}, permissions=["enrollment.read"])
    assert answer.status == 403
    answer = await house.service.call("GET", CREDENTIALS, permissions=["enrollment.read"])
    assert answer.status == 200
