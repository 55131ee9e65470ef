"""The end of management, as relying parties see it: openssl judges (issue 3, acceptance 2)."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from prometheus_client import REGISTRY

from shared.events.audit import AuditRecorded
from shared.events.devices import CertificateRevoked, DeviceUnenrolled
from shared.runtime.charging import PATH as CHARGE_PATH
from shared.runtime.testing import Answer
from tests.enrollment.conftest import API, FENCE, Apple, House

CRL = "/pki/crl/device-identity-1.crl"
CA = "/pki/ca/device-identity-1.cer"


def openssl(*arguments: str | Path) -> str:
    """Run openssl; what it says, on either stream, with its verdict."""
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    return f"{done.stdout}{done.stderr}\nexit {done.returncode}"


class Judge:
    """Files for openssl: the CA as downloaded, a device's certificate, the CRL."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house, self.folder = house, folder

    async def fetch(self, path: str, name: str, kind: str) -> Path:
        answer = await self.house.device_get(path)
        assert answer.status == 200
        der = self.folder / f"{name}.der"
        der.write_bytes(answer.body)
        pem = self.folder / f"{name}.pem"
        assert "exit 0" in openssl(kind, "-inform", "DER", "-in", der, "-out", pem)
        return pem

    async def ca(self) -> Path:
        return await self.fetch(CA, "ca", "x509")

    def leaf(self, device: Apple) -> Path:
        assert device.identity is not None
        path = self.folder / "leaf.pem"
        path.write_bytes(device.identity.certificate.public_bytes(Encoding.PEM))
        return path

    async def verify(self, device: Apple) -> str:
        """openssl's verdict over chain and CRL."""
        crl = await self.fetch(CRL, "crl", "crl")
        return openssl(
            "verify", "-crl_check", "-CAfile", await self.ca(), "-CRLfile", crl,
            "-purpose", "sslclient", self.leaf(device),
        )  # fmt: skip

    async def ocsp(self, device: Apple) -> str:
        """The verdict of openssl's own OCSP client: nonce, responder's chain, status."""
        ca = await self.ca()
        client = await asyncio.create_subprocess_exec(
            "openssl", "ocsp", "-url", f"{self.house.address}/pki/ocsp", "-issuer", ca,
            "-cert", self.leaf(device), "-CAfile", ca,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(client.communicate(), 60)
        return said.decode()

    async def ocsp_by_get(self, device: Apple) -> str:
        """The same for an answer to a GET, whose request holds no nonce (RFC 6960 §A.1)."""
        ca, leaf = await self.ca(), self.leaf(device)
        request, response = self.folder / "ocsp.req", self.folder / "ocsp.resp"
        openssl("ocsp", "-issuer", ca, "-cert", leaf, "-no_nonce", "-reqout", request)
        encoded = quote(base64.b64encode(request.read_bytes()).decode(), safe="")
        answer = await self.house.raw(
            f"GET /pki/ocsp/{encoded} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 200 " in head
        assert b"application/ocsp-response" in head
        response.write_bytes(body)
        return openssl(
            "ocsp", "-issuer", ca, "-cert", leaf, "-no_nonce", "-respin", response, "-CAfile", ca
        )


@pytest.fixture
def judge(house: House, tmp_path: Path) -> Judge:
    folder = tmp_path / "judge"
    folder.mkdir()
    return Judge(house, folder)


async def test_openssl_accepts_the_signed_profile(house: House, judge: Judge) -> None:
    answer = await house.device_get(await house.credential())
    signed = judge.folder / "profile"
    signed.write_bytes(answer.body)
    out = judge.folder / "profile.xml"
    said = openssl(
        "cms", "-verify", "-inform", "DER", "-in", signed, "-CAfile", await judge.ca(), "-out", out
    )
    assert "exit 0" in said
    assert b"com.apple.mdm" in out.read_bytes()


async def test_openssl_accepts_chain_crl_and_ocsp(house: House, judge: Judge) -> None:
    device = await house.enrolled()
    assert "leaf.pem: OK" in await judge.verify(device)
    for said in (await judge.ocsp(device), await judge.ocsp_by_get(device)):
        assert "Response verify OK" in said
        assert "leaf.pem: good" in said


async def test_a_revocation_is_in_the_crl_within_a_minute_and_in_ocsp_at_once(
    house: House, judge: Judge
) -> None:
    device = await house.enrolled()
    device_id = await house.id_of(device)
    number = crl_number(await house.device_get(CRL))
    await house.told()
    order = {"reason": "lost in the train"}
    answer = await house.call("POST", f"/devices/{device_id}/revoke", order, actor="ada")
    assert answer == {"state": "ended"}
    assert house.fences[-1]["state"] == "revoked"
    assert "leaf.pem: revoked" in await judge.ocsp(device)
    told = await house.told()
    assert told.one(DeviceUnenrolled).actor == "ada"
    assert told.one(CertificateRevoked).actor == "ada"
    assert told.enrollment.state == "ended"
    assert told.one(AuditRecorded).reason == "lost in the train"
    assert (await house.check_in(device, device.token_update())).status == 400

    await house.service.run_job("crl")  # what its timer does every twenty seconds
    assert "certificate revoked" in await judge.verify(device)
    assert crl_number(await house.device_get(CRL)) == number + 1
    await house.service.run_job("crl")
    assert crl_number(await house.device_get(CRL)) == number + 1  # nothing new: not signed again


def crl_number(answer: object) -> int:
    crl = x509.load_der_x509_crl(answer.body)  # type: ignore[attr-defined]
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


async def test_a_crl_is_signed_every_hour_and_valid_for_a_day(house: House) -> None:
    first = x509.load_der_x509_crl((await house.device_get(CRL)).body)
    assert first.next_update_utc is not None
    assert (first.next_update_utc - first.last_update_utc).total_seconds() == 86_400
    house.later(minutes=59)
    await house.service.run_job("crl")
    assert crl_number(await house.device_get(CRL)) == 1
    house.later(minutes=2)
    await house.service.run_job("crl")
    assert crl_number(await house.device_get(CRL)) == 2


async def test_a_revocation_stays_pending_until_it_is_fenced(house: House, judge: Judge) -> None:
    """architecture §4; the device may say nothing new meanwhile."""
    device = await house.enrolled()
    device_id = await house.id_of(device)
    await house.told()
    house.others.failing.add(FENCE)
    answer = await house.call("POST", f"/devices/{device_id}/revoke", {"reason": "lost"})
    assert answer == {"state": "pending"}
    assert not (await house.told()).of(DeviceUnenrolled)
    answer = await house.check_in(device, device.authenticate())
    assert (answer.status, answer.text) == (400, "enrollment_ended\n")
    assert "leaf.pem: good" in await judge.ocsp(device)
    assert await house.service.run_job("fences") is False
    house.others.failing.clear()
    house.later(minutes=1)
    await house.service.run_job("fences")
    told = await house.told()
    assert told.one(DeviceUnenrolled).reason == "revoked"
    assert "leaf.pem: revoked" in await judge.ocsp(device)
    assert not await house.query("SELECT FROM fence")


async def _revoked(house: House, device_id: object) -> Answer:
    order = {"reason": "tidy up"}
    path = f"{API}/devices/{device_id}/revoke"
    return await house.service.call("POST", path, order, actor="ada")


async def test_a_revocation_is_charged_before_anything_is_done(house: House) -> None:
    """security.md, The guard: everything that can harm is charged, not only commands."""
    device = await house.enrolled()
    device_id = await house.id_of(device)
    await house.told()
    house.others.answers["command_queue", CHARGE_PATH] = {"refused": "25 of 25 are spent"}
    refused = await _revoked(house, device_id)
    assert (refused.status, refused.json["code"]) == (409, "guard_refused")
    assert "25 of 25 are spent" in refused.json["detail"]
    house.others.failing.add(CHARGE_PATH)
    silent = await _revoked(house, device_id)
    assert (silent.status, silent.json["code"]) == (503, "guard_silent")
    assert not (await house.told()).events
    assert not await house.query("SELECT FROM fence")
    house.others.failing.clear()
    house.others.answers.clear()
    house.others.calls.clear()
    assert (await _revoked(house, device_id)).json == {"state": "ended"}
    asked = [(path, body) for _, _, path, body in house.others.calls]
    assert [path for path, _ in asked] == [CHARGE_PATH, FENCE]
    body = asked[0][1]
    assert body is not None
    assert (body["actor"], body["command_class"]) == ("ada", "destructive")
    assert body["device_ids"] == [str(device_id)]


async def test_a_check_out_is_stored_at_once_and_fenced_by_a_job(
    house: House, judge: Judge
) -> None:
    """It comes only once: it must succeed while command_queue is away."""
    device = await house.enrolled()
    enrollment = (await house.told()).enrollment
    house.others.failing.add("command_queue")
    message = device.message("CheckOut", Topic="com.apple.mgmt.x")
    assert (await house.check_in(device, message)).status == 200
    told = await house.told()
    assert (told.enrollment.state, told.enrollment.end_reason) == ("ended", "check_out")
    assert told.enrollment.pins == enrollment.pins  # refused from now on, not unknown
    assert "leaf.pem: revoked" in await judge.ocsp(device)
    await house.service.run_job("fences")
    house.others.failing.clear()
    house.others.calls.clear()
    house.later(minutes=10)
    await house.service.run_job("fences")
    assert house.fences == [
        {
            "enrollment_id": str(enrollment.enrollment_id),
            "device_id": str(told.state.device_id),
            "generation": 1,
            "state": "ended",
        }
    ]
    house.later(minutes=10)
    await house.service.run_job("fences")
    assert len(house.fences) == 1


async def test_ocsp_knows_only_what_was_issued_here(house: House, judge: Judge) -> None:
    device = await house.enrolled()
    await house.query("DELETE FROM certificate")
    assert "leaf.pem: unknown" in await judge.ocsp(device)


@pytest.mark.parametrize("path", ["/pki/ocsp/%FF", "/pki/ocsp/AAAA"])
async def test_a_malformed_ocsp_request_gets_an_ocsp_answer(house: House, path: str) -> None:
    answer = await house.device_get(path)
    assert answer.status == 200
    assert x509.ocsp.load_der_ocsp_response(answer.body).response_status.name == "MALFORMED_REQUEST"


@pytest.mark.parametrize("path", ["/pki/crl/other.crl", "/pki/ca/other.cer"])
async def test_other_authorities_are_unknown(house: House, path: str) -> None:
    assert (await house.device_get(path)).status == 404


async def test_fences_that_wait_are_counted_by_every_process(house: House) -> None:
    """Also by one that does not carry them: its gauge must not stand still at an old count."""
    [job] = [one for one in house.service.parts.jobs if one.name == "count fences"]
    assert not job.single
    device = await house.enrolled()
    await house.check_in(device, device.message("CheckOut", Topic="com.apple.mgmt.x"))
    await job.run()
    assert REGISTRY.get_sample_value("muster_enrollment_fences_waiting") == 1
    await house.query("DELETE FROM fence")  # as if another process had carried it
    await job.run()
    assert REGISTRY.get_sample_value("muster_enrollment_fences_waiting") == 0
