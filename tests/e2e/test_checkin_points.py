"""apple.md §1.11, the points that concern check-ins, on a running Muster."""

from __future__ import annotations

import pytest

from tests.chaos.rig import patiently
from tests.e2e.conftest import Workshop
from tests.e2e.rig import Person
from tools.simulator import signing
from tools.simulator.device import EnrollmentError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_point_01_enrolled_by_token_update_and_not_before(
    workshop: Workshop, person: Person
) -> None:
    device = workshop.device("iphone")
    profile = await device.fetch_profile(await person.enroll_url())
    device.enrollment = await device.prepare(profile)
    assert (await device.authenticate()).ok
    idle = await device.connect()
    assert idle.ok
    assert idle.command is None
    pushes = len(person.cluster.apns.received)
    assert (await device.token_update()).ok
    token = device.managed.push.token.hex()

    async def pushed() -> bool:
        return token in {push["token"] for push in list(person.cluster.apns.received)[pushes:]}

    # A device that came by itself before would leave nothing to be woken for.
    await patiently(pushed, seconds=60)


async def test_point_02_authenticate_again_empties_queue_and_forgets_tokens(
    workshop: Workshop, person: Person
) -> None:
    device = await workshop.enrolled("mac")
    device_id = await person.device_id(device)
    waiting = await person.command(device_id)
    assert await device.get_bootstrap_token()
    assert (await device.authenticate()).ok
    assert (await person.outcome(waiting))["state"] == "cancelled"
    assert (await device.connect()).command is None
    assert await device.get_bootstrap_token() is None
    rows = await person.cluster.query(
        "push_notifier", "SELECT open FROM channel WHERE device_id=$1", device_id
    )

    async def closed() -> bool:
        rows = await person.cluster.query(
            "push_notifier", "SELECT open FROM channel WHERE device_id = $1", device_id
        )
        return not any(row["open"] for row in rows)

    assert rows
    await patiently(closed, seconds=30)


async def test_point_03_token_update_without_unlock_token_keeps_the_stored_one(
    workshop: Workshop, person: Person
) -> None:
    device = await workshop.enrolled("iphone")
    device_id = await person.device_id(device)
    device.managed.unlock_token, kept = None, device.managed.unlock_token
    assert kept
    assert (await device.token_update()).ok
    command = await person.command(device_id, "device.clear_passcode")
    given = (await device.connect()).command
    assert given is not None
    assert given.body["UnlockToken"] == kept
    await device.connect("Acknowledged", given)
    assert (await person.outcome(command))["state"] == "acknowledged"


async def test_point_04_and_05_bootstrap_token(workshop: Workshop, person: Person) -> None:
    device = workshop.device("mac")
    profile = await device.fetch_profile(await person.enroll_url())
    device.enrollment = await device.prepare(profile)
    assert (await device.authenticate()).ok
    assert (await device.token_update()).ok
    assert await device.get_bootstrap_token() is None
    await device.set_bootstrap_token(b"a token")
    assert await device.get_bootstrap_token() == b"a token"
    await device.set_bootstrap_token(b"")
    assert await device.get_bootstrap_token() is None


async def test_point_06_a_foreign_certificate_is_refused_without_401_or_change(
    workshop: Workshop, person: Person
) -> None:
    one, other = await workshop.enrolled(), await workshop.enrolled()
    command = await person.command(await person.device_id(one))
    stolen = await one.connect(signing=signing.by(other.identity))
    assert stolen.status == 400
    assert stolen.command is None
    assert await person.state(command) in ("queued", "sent")
    assert (await one.connect()).command is not None


async def test_point_07_certificate_of_another_device_is_refused_at_authenticate(
    workshop: Workshop, person: Person
) -> None:
    one = await workshop.enrolled()
    other = workshop.device()
    profile = await other.fetch_profile(await person.enroll_url())
    other.enrollment = await other.prepare(profile)
    other.enrollment.identity = one.identity
    assert (await other.authenticate()).status == 400
    assert (await one.connect()).ok


async def test_point_08_swapped_body_refused_and_embedded_content_accepted(
    workshop: Workshop,
) -> None:
    device = await workshop.enrolled()
    for bad in (signing.swapped(b"x"), signing.swapped_embedded(b"x"), signing.UNSIGNED):
        assert (await device.connect(signing=bad)).status == 400
        message = device.message("GetBootstrapToken", AwaitingConfiguration=False)
        assert (await device.checkin(message, signing=bad)).status == 400
    for good in (signing.EMBEDDED, signing.INDEFINITE, signing.INDEFINITE_EMBEDDED):
        assert (await device.connect(signing=good)).ok


async def test_point_15_user_channel_commands_never_leak(
    workshop: Workshop, person: Person
) -> None:
    device = await workshop.enrolled("mac")
    user = device.traits.user
    assert (await device.token_update(user)).ok
    device_id = await person.device_id(device)
    on_device = await person.command(device_id)

    async def user_connects() -> bool:
        return (await device.connect(user=user)).ok

    await patiently(user_connects, seconds=30)
    assert (await device.connect(user=user)).command is None
    given = (await device.connect()).command
    assert given is not None
    assert given.uuid.lower() == on_device


async def test_point_16_shared_ipad_users_are_known_by_their_short_name(
    workshop: Workshop, person: Person
) -> None:
    device = await workshop.enrolled("ipad")
    everybody = "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"
    for name in ("anna@example.com", "ben@example.com"):
        message = device.message(
            "TokenUpdate",
            Topic=device.managed.mdm.topic,
            Token=name.encode(),
            PushMagic=name,
            UserID=everybody,
            UserShortName=name,
            UserLongName=name,
        )
        assert (await device.checkin(message)).ok
    device_id = await person.device_id(device)
    rows = await person.cluster.query(
        "enrollment", "SELECT user_key FROM channel WHERE device_id = $1", device_id
    )
    assert {"anna@example.com", "ben@example.com"} <= {row["user_key"] for row in rows}


async def test_point_17_user_authenticate_is_declined_by_410(workshop: Workshop) -> None:
    device = await workshop.enrolled("mac")
    user = device.traits.user
    assert (await device.checkin(device.message("UserAuthenticate", user))).status == 410


async def test_point_19_return_to_service_unconfigured_says_so(workshop: Workshop) -> None:
    device = await workshop.enrolled("iphone")
    reply = await device.checkin(device.message("ReturnToService"))
    assert reply.ok
    assert reply.plist == {"ReturnToService": {"Enabled": False}}


async def test_get_token_is_a_well_formed_refusal(workshop: Workshop) -> None:
    device = await workshop.enrolled()
    reply = await device.checkin(device.message("GetToken", TokenServiceType="com.apple.maid"))
    assert 400 <= reply.status < 500
    assert reply.status != 401
    assert len(reply.body) < 300


async def test_point_26_a_profile_sent_again_keeps_what_is_assigned(
    workshop: Workshop, person: Person
) -> None:
    """Renewal: the same hardware comes with a new certificate from a re-sent profile."""
    device = await workshop.enrolled("iphone")
    device_id = await person.device_id(device)
    path = f"/api/v1/enrollment/devices/{device_id}"
    await person.ask("enrollment", "PATCH", path, json={"tags": ["till"], "user": "anna"})
    old = device.identity
    await device.renew()
    assert device.identity.certificate != old.certificate
    assert (await device.authenticate()).ok
    assert (await device.token_update()).ok
    after = await person.ask("enrollment", "GET", path)
    assert after["tags"] == ["till"]
    assert after["user"] == "anna"
    assert after["state"] == "enrolled"

    async def served() -> bool:
        return (await device.connect()).ok

    await patiently(served, seconds=30)


async def test_note_01_takeover_goes_to_quarantine(workshop: Workshop, person: Person) -> None:
    """A fresh certificate for known hardware, without proof: nothing of the old one is touched."""
    victim = await workshop.enrolled("iphone")
    waiting = await person.command(await person.device_id(victim))
    thief = workshop.device("iphone")
    thief.traits = victim.traits
    profile = await thief.fetch_profile(await person.enroll_url())
    thief.enrollment = await thief.prepare(profile)
    assert (await thief.authenticate()).ok
    await thief.token_update()
    reply = await thief.connect()
    assert reply.status in (200, 400)
    assert reply.command is None
    given = (await victim.connect()).command
    assert given is not None
    assert given.uuid.lower() == waiting
    found = await person.devices(q=victim.traits.serial)
    assert [row["state"] for row in found] == ["enrolled"]
    assert found[0]["quarantine"], "a person is told"


async def test_note_02_after_check_out_the_old_identity_is_refused(
    workshop: Workshop, person: Person
) -> None:
    device = await workshop.enrolled()
    enrollment = device.managed
    assert (await device.check_out()).ok
    device.enrollment = enrollment

    async def refused() -> bool:
        return (await device.connect()).status == 400

    await patiently(refused, seconds=30)
    assert (await device.authenticate()).status == 400


async def test_note_03_sha1_signatures_are_accepted_by_default(workshop: Workshop) -> None:
    device = await workshop.enrolled()
    for style in (signing.SHA1, signing.SHA1_WITHOUT_NULL):
        assert (await device.connect(signing=style)).ok


async def test_note_05_success_is_exactly_200_by_any_method_and_type(workshop: Workshop) -> None:
    device = await workshop.enrolled()
    for method in ("PUT", "POST"):
        for kind in (None, "application/x-apple-aspen-mdm", "text/plain"):
            assert (await device.connect(method=method, content_type=kind)).status == 200


async def test_note_06_push_tokens_may_be_short_and_equal(
    workshop: Workshop, person: Person
) -> None:
    pair = [await workshop.enrolled(), await workshop.enrolled()]
    for device in pair:
        message = device.message(
            "TokenUpdate",
            Topic=device.managed.mdm.topic,
            Token=b"nine byte",
            PushMagic=f"magic {device.udid}",
        )
        assert (await device.checkin(message)).ok
    for device in pair:
        await person.command(await person.device_id(device))

    async def both_pushed() -> bool:
        magics = {
            push["payload"]["mdm"]
            for push in person.cluster.apns.received
            if push["token"] == b"nine byte".hex()
        }
        return magics == {f"magic {device.udid}" for device in pair}

    await patiently(both_pushed, seconds=30)


async def test_a_spent_credential_is_refused(workshop: Workshop, person: Person) -> None:
    url = await person.enroll_url(max_uses=1)
    device, other = workshop.device(), workshop.device()
    await device.fetch_profile(url)
    with pytest.raises(EnrollmentError) as refused:
        await other.fetch_profile(url)
    assert refused.value.reply is not None
    assert refused.value.reply.status in (403, 404, 410)
