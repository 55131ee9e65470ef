"""Acceptance 2: openssl, which shares no code with us, verifies what Muster signs."""

from __future__ import annotations

import asyncio
import plistlib
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID as Access

from tests.chaos.rig import patiently
from tests.e2e.conftest import Workshop
from tests.e2e.rig import Person
from tools.simulator.device import SimulatedDevice

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def openssl(*arguments: str | Path) -> str:
    """What openssl says; fails when openssl does."""
    process = await asyncio.create_subprocess_exec(
        "openssl", *map(str, arguments),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return said


class Papers:
    """A device's certificate, its CA, and where their state can be asked for, as files."""

    def __init__(self, device: SimulatedDevice, folder: Path) -> None:
        self.leaf = device.identity.certificate
        self.folder = folder
        self.leaf_file = self.write("leaf.pem", self.leaf.public_bytes(Encoding.PEM))
        access = self.leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
        urls = {d.access_method: d.access_location.value for d in access.value}
        self.ocsp_url = str(urls[Access.OCSP])
        self.ca_url = str(urls[Access.CA_ISSUERS])
        points = self.leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        self.crl_url = str((points[0].full_name or [])[0].value)

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    async def fetch(self, person: Person, url: str) -> bytes:
        async with person.session.get(url) as answer:
            assert answer.status == 200, url
            return await answer.read()

    async def ca_file(self, person: Person) -> Path:
        ca = x509.load_der_x509_certificate(await self.fetch(person, self.ca_url))
        return self.write("ca.pem", ca.public_bytes(Encoding.PEM))

    async def crl_file(self, person: Person) -> Path:
        return self.write("list.crl", await self.fetch(person, self.crl_url))

    async def ocsp(self, person: Person) -> str:
        """The state of the leaf, asked and verified by openssl."""
        ca, request = await self.ca_file(person), self.folder / "ocsp.request"
        await openssl(
            "ocsp", "-issuer", ca, "-cert", self.leaf_file, "-reqout", request, "-no_nonce"
        )
        async with person.session.post(self.ocsp_url, data=request.read_bytes()) as answer:
            assert answer.status == 200
            response = self.write("ocsp.response", await answer.read())
        return await openssl(
            "ocsp", "-issuer", ca, "-cert", self.leaf_file, "-respin", response, "-CAfile", ca
        )


async def test_the_profile_is_signed_and_holds_what_is_required(
    workshop: Workshop, person: Person, tmp_path: Path
) -> None:
    device = workshop.device()
    profile = await device.fetch_profile(await person.enroll_url())
    signed, content = tmp_path / "signed.p7", tmp_path / "content"
    signed.write_bytes(profile.raw)
    await openssl("cms", "-verify", "-inform", "DER", "-in", signed, "-noverify", "-out", content)
    document = plistlib.loads(content.read_bytes())
    by_type: dict[str, Any] = {p["PayloadType"]: p for p in document["PayloadContent"]}
    mdm, scep = by_type["com.apple.mdm"], by_type["com.apple.security.scep"]
    assert {"IdentityCertificateUUID", "Topic", "ServerURL", "CheckInURL", "AccessRights"} <= set(
        mdm
    )
    assert mdm["SignMessage"] is True
    assert mdm["IdentityCertificateUUID"] == scep["PayloadUUID"]
    assert mdm["Topic"].startswith("com.apple.mgmt.")
    assert mdm["ServerURL"].startswith("https://")
    assert {"URL", "Subject", "Keysize", "Key Type", "Key Usage"} <= set(scep["PayloadContent"])
    assert scep["PayloadContent"]["Keysize"] >= 2048
    for payload in (document, mdm, scep):
        assert {"PayloadIdentifier", "PayloadUUID", "PayloadVersion", "PayloadType"} <= set(payload)


async def test_chain_crl_and_ocsp_of_an_issued_certificate(
    workshop: Workshop, person: Person, tmp_path: Path
) -> None:
    device = await workshop.enrolled()
    papers = Papers(device, tmp_path)
    ca = await papers.ca_file(person)
    crl = await papers.crl_file(person)
    assert "OK" in await openssl("verify", "-x509_strict", "-CAfile", ca, papers.leaf_file)
    said = await openssl("crl", "-inform", "DER", "-in", crl, "-CAfile", ca, "-noout")
    assert "verify OK" in said
    said = await papers.ocsp(person)
    assert "Response verify OK" in said
    assert ": good" in said


async def test_a_lost_device_is_revoked_at_once_and_on_the_next_list(
    workshop: Workshop, person: Person, tmp_path: Path
) -> None:
    device = await workshop.enrolled()
    papers = Papers(device, tmp_path)
    await device.check_out()

    async def revoked() -> bool:
        return ": revoked" in await papers.ocsp(person)

    await patiently(revoked, seconds=30)
    number = papers.leaf.serial_number

    async def listed() -> bool:
        crl = x509.load_der_x509_crl((await papers.crl_file(person)).read_bytes())
        return crl.get_revoked_certificate_by_serial_number(number) is not None

    await patiently(listed, seconds=90)
