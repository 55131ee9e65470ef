"""apple.md §1.11 point 21 and §1.12 note 4: SCEP as clients in the field speak it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.e2e.conftest import Workshop
from tests.e2e.rig import Person
from tools.simulator.device import EnrollmentError, SimulatedDevice
from tools.simulator.wire import profile as profiles
from tools.simulator.wire import scep
from tools.simulator.wire.scepclient import Options, ScepClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.mark.parametrize("cipher", ["des", "3des", "aes128", "aes256"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_point_21_every_cipher_is_answered_in_kind(
    workshop: Workshop, person: Person, cipher: str, method: str
) -> None:
    device = workshop.device(scep_options=Options(cipher=cipher, method=method))
    await device.enroll(workshop.session, await person.enroll_url())
    assert (await device.connect()).ok


async def test_note_04_the_message_in_the_address_of_a_post(
    workshop: Workshop, person: Person
) -> None:
    """Request lines near 7 KB; the certificate list of GetCACert is RSA only."""
    options = Options(method="POST", message_in_query=True)
    device = workshop.device(scep_options=options)
    await device.enroll(workshop.session, await person.enroll_url())
    assert (await device.connect()).ok


async def payload_of(device: SimulatedDevice, person: Person) -> profiles.ScepPayload:
    profile = await device.fetch_profile(await person.enroll_url())
    return profiles.mdm_payload(profile)[1]


async def test_point_21_a_wrong_challenge_is_a_signed_failure(
    workshop: Workshop, person: Person
) -> None:
    device = workshop.device()
    payload = await payload_of(device, person)
    wrong = replace(payload, url=payload.url.rsplit("/", 1)[0] + "/no-such-challenge")
    key = await workshop.keys.get(device.traits.index, 1)
    with pytest.raises(scep.ScepRefused):
        await ScepClient(workshop.session, wrong).enroll(key)


async def test_point_21_a_challenge_is_good_for_one_key(workshop: Workshop, person: Person) -> None:
    """The same key again gets the same certificate, another key fails."""
    device = workshop.device()
    payload = await payload_of(device, person)
    client = ScepClient(workshop.session, payload)
    key = await workshop.keys.get(device.traits.index, 1)
    first = await client.enroll(key)
    again = await client.enroll(key)
    assert again.certificate == first.certificate
    with pytest.raises(scep.ScepRefused):
        await client.enroll(await workshop.keys.get(device.traits.index, 2))


async def test_point_21_renewal_by_the_current_certificate(workshop: Workshop) -> None:
    device = await workshop.enrolled()
    old = device.identity
    await device.renew()
    assert device.identity.certificate.public_key() != old.certificate.public_key()
    assert (await device.authenticate()).ok
    assert (await device.token_update()).ok


async def test_renewal_by_a_stranger_is_refused(workshop: Workshop, person: Person) -> None:
    device = workshop.device()
    payload = await payload_of(device, person)
    client = ScepClient(workshop.session, payload)
    key = await workshop.keys.get(device.traits.index, 1)
    stranger = scep.self_signed(key, scep.subject_name(payload.subject))
    with pytest.raises(scep.ScepRefused):
        await client.renew(await workshop.keys.get(device.traits.index, 2), stranger)


async def test_a_revoked_credential_gives_no_profile(workshop: Workshop, person: Person) -> None:
    made = await person.ask(
        "enrollment", "POST", "/api/v1/enrollment/credentials", json={"name": "e2e"}
    )
    path = f"/api/v1/enrollment/credentials/{made['credential_id']}"
    await person.ask("enrollment", "DELETE", path)
    with pytest.raises(EnrollmentError):
        await workshop.device().fetch_profile(made["enroll_url"])
