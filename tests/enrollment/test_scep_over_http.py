"""SCEP as clients in the field speak it (apple.md §1.6, §1.11, 21 and §1.12, 4)."""

from __future__ import annotations

import asyncio
import base64
from urllib.parse import quote, quote_from_bytes, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared.events.devices import EnrollmentRefused
from tests.enrollment.conftest import PKI_OPERATION, House, payload_of
from tools.simulator.wire import cms, scep

MESSAGE_TYPE = "application/x-pki-message"


async def session(house: House, **credential: object) -> tuple[str, str]:
    """Path and challenge of a profile's SCEP payload."""
    document = await house.profile(await house.credential(**credential))
    content = payload_of(document, "com.apple.security.scep")["PayloadContent"]
    return urlsplit(content["URL"]).path, content["Challenge"]


async def test_capabilities_and_certificates_come_in_exactly_their_types(house: House) -> None:
    path, _ = await session(house)
    answer = await house.device_get(f"{path}?operation=GetCACaps")
    assert answer.headers["Content-Type"] == "text/plain"
    assert {"AES", "SHA-256", "Renewal", "POSTPKIOperation"} <= set(answer.text.split())
    answer = await house.device_get(f"{path}?operation=GetCACert&message=Muster")
    assert answer.headers["Content-Type"] == "application/x-x509-ca-ra-cert"
    certificates = cms.certificates_of(answer.body)
    assert len(certificates) == 2
    assert all(isinstance(one.public_key(), rsa.RSAPublicKey) for one in certificates)


@pytest.mark.parametrize("cipher", ["des", "3des", "aes128", "aes256"])
@pytest.mark.parametrize("digest", ["sha256", "sha1"])
async def test_every_client_is_answered_in_its_own_cipher(
    house: House, cipher: str, digest: str
) -> None:
    """apple.md §1.11, 21."""
    path, challenge = await session(house)
    issued = await house.issue(path, challenge, cipher=cipher, digest=digest)
    assert issued.algorithm == cipher
    assert len(issued.certificates) == 1  # only the leaf


async def test_muster_writes_the_certificate_not_the_client(house: House) -> None:
    path, challenge = await session(house)
    key = house.new_key()
    certificate = (await house.issue(path, challenge, key)).certificate
    assert "whatever" not in certificate.subject.rfc4514_string()
    extensions = certificate.extensions
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    [point] = extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert point.full_name is not None
    assert point.full_name[0].value.startswith("https://mdm.example.org/pki/crl/")
    access = extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert {one.access_location.value for one in access} >= {"https://mdm.example.org/pki/ocsp"}
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("wrong", ["path", "password"])
async def test_a_wrong_challenge_is_a_signed_failure(house: House, wrong: str) -> None:
    path, challenge = await session(house)
    asked, password = ("/scep/" + "x" * 32, challenge) if wrong == "path" else (path, "guess")
    with pytest.raises(scep.ScepRefused):
        await house.issue(asked, password)
    assert not await house.query("SELECT FROM certificate")
    await house.issue(path, challenge)  # the guess did not spend it


async def test_a_challenge_buys_one_certificate(house: House) -> None:
    """The same key again gets the same certificate; another key fails."""
    path, challenge = await session(house)
    key = house.new_key()
    first = await house.issue(path, challenge, key)
    again = await house.issue(path, challenge, key)
    assert again.certificate == first.certificate
    with pytest.raises(scep.ScepRefused):
        await house.issue(path, challenge)
    assert (await house.told()).one(EnrollmentRefused).reason == "challenge_replayed"
    assert len(await house.query("SELECT FROM certificate")) == 1


async def test_a_race_for_a_challenge_has_one_winner(house: House) -> None:
    path, challenge = await session(house)
    keys = [house.new_key() for _ in range(3)]
    results = await asyncio.gather(
        *(house.issue(path, challenge, key) for key in [*keys, keys[0]]), return_exceptions=True
    )
    issued = {one.certificate for one in results if isinstance(one, scep.Issued)}
    assert len(issued) == 1
    assert len(await house.query("SELECT FROM certificate")) == 1


async def test_a_challenge_expires(house: House) -> None:
    path, challenge = await session(house)
    house.later(hours=2)
    with pytest.raises(scep.ScepRefused):
        await house.issue(path, challenge)
    assert (await house.told()).one(EnrollmentRefused).reason == "challenge_over"


async def test_all_failures_look_alike(house: House) -> None:
    """security.md, Rogue enrollment: a client learns that it failed, never why."""
    path, challenge = await session(house)
    await house.issue(path, challenge)
    sizes = set()
    for asked, password in ((path, challenge), (path, "guess"), ("/scep/unknown", "x")):
        sent, _ = await house.request(asked, password, house.new_key())
        answer = await house.service.send("devices", "POST", asked + PKI_OPERATION, sent.message)
        assert (answer.status, answer.headers["Content-Type"]) == (200, MESSAGE_TYPE)
        sizes.add(len(answer.body))
    assert len(sizes) == 1


async def test_a_get_carries_the_message_in_base64(house: House) -> None:
    path, challenge = await session(house)
    sent, authorities = await house.request(path, challenge, house.new_key())
    message = quote(base64.b64encode(sent.message).decode(), safe="")
    answer = await house.device_get(f"{path}{PKI_OPERATION}&message={message}")
    assert answer.status == 200
    assert scep.open_reply(answer.body, sent, authorities).certificate is not None


async def raw_scep(house: House, method: str, path: str, query: str, body: bytes = b"") -> bytes:
    """A request line that no library would write; returns the answer's body."""
    head = (
        f"{method} {path}{query} HTTP/1.1\r\nHost: mdm.example.org\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    answer = await house.raw(head.encode("latin-1") + body)
    head_part, _, content = answer.partition(b"\r\n\r\n")
    assert head_part.startswith(b"HTTP/1.1 200"), answer[:300]
    return content


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_whole_message_percent_encoded_in_the_request_line(
    house: House, method: str
) -> None:
    """apple.md §1.12, 4: near 7 KB, no UTF-8, also when it is POSTed with a body."""
    path, challenge = await session(house)
    sent, authorities = await house.request(path, challenge, house.new_key())
    encoded = "".join(f"%{octet:02X}" for octet in sent.message)
    assert 7_000 < len(encoded) < 16_000
    body = sent.message if method == "POST" else b""
    content = await raw_scep(house, method, path, f"{PKI_OPERATION}&message={encoded}", body)
    assert scep.open_reply(content, sent, authorities).certificate is not None


async def test_a_question_mark_appended_blindly_is_tolerated(house: House) -> None:
    path, challenge = await session(house)
    sent, authorities = await house.request(path, challenge, house.new_key())
    content = await raw_scep(house, "POST", path, f"?{PKI_OPERATION}", sent.message)
    assert scep.open_reply(content, sent, authorities).certificate is not None
    again = await raw_scep(house, "POST", f"{path}/pkiclient.exe", PKI_OPERATION, sent.message)
    assert scep.open_reply(again, sent, authorities).certificate is not None


@pytest.mark.parametrize(
    "query", ["", "?operation=Reboot", "?operation=PKIOperation", f"{PKI_OPERATION}&message=%FF"]
)
async def test_what_is_no_scep_gets_a_short_400(house: House, query: str) -> None:
    path, _ = await session(house)
    answer = await house.device_get(path + query)
    assert (answer.status, answer.text) == (400, "scep_malformed\n")


@pytest.mark.parametrize("data", [b"x", b"\x30\x80" * 5000, bytes(range(256)) * 100])
async def test_rubbish_messages_get_a_short_400(house: House, data: bytes) -> None:
    path, _ = await session(house)
    answer = await house.service.send("devices", "POST", path + PKI_OPERATION, data)
    assert answer.status == 400
    answer = await house.device_get(
        f"{path}{PKI_OPERATION}&message={quote_from_bytes(data[:2000])}"
    )
    assert answer.status == 400


async def test_renewal_needs_a_certificate_that_counts(house: House) -> None:
    """A stranger's, another CA's, a revoked one: the same signed failure."""
    device = await house.enrolled()
    path, _ = await session(house)
    assert device.identity is not None
    name = scep.subject_name([[["CN", "stranger"]]])
    stranger = scep.self_signed(house.new_key(), name)
    with pytest.raises(scep.ScepRefused):
        await house.issue(path, None, signer=stranger)
    unused = await house.identity(await house.credential())
    with pytest.raises(scep.ScepRefused):
        await house.issue(path, None, signer=unused)  # it speaks for nobody yet
    device_id = await house.id_of(device)
    await house.call("POST", f"/devices/{device_id}/revoke", {"reason": "lost"})
    with pytest.raises(scep.ScepRefused):
        await house.issue(path, None, signer=device.identity)


async def test_a_device_cannot_renew_without_end(house: House) -> None:
    device = await house.enrolled()
    path, _ = await session(house)
    for _ in range(3):
        await house.issue(path, None, signer=device.identity)
    with pytest.raises(scep.ScepRefused):
        await house.issue(path, None, signer=device.identity)
