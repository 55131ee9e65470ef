"""Devices of another server: their certificates come from a CA that Muster has never heard of."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.enrollment.conftest import TOPIC, Apple, House
from tools.simulator.wire import cms

IMPORTS = "/imports"
UNLOCK, BOOTSTRAP = b"unlock-token-of-the-old-server", b"bootstrap-token-of-the-old-server"


@dataclass(frozen=True)
class ForeignCA:
    """The CA of the server that devices come from."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    now: datetime

    @classmethod
    def make(cls, now: datetime) -> ForeignCA:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "The old server")])
        return cls(name, ec.generate_private_key(ec.SECP256R1()), now)

    def issue(
        self,
        key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
        *,
        begins: timedelta = timedelta(days=-30),
        ends: timedelta = timedelta(days=335),
        authority: bool = False,
    ) -> x509.Certificate:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "MDM identity")])
        return (
            x509.CertificateBuilder(self.name, subject, key, x509.random_serial_number())
            .not_valid_before(self.now + begins)
            .not_valid_after(self.now + ends)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(usage, critical=False)
            .sign(self.key, hashes.SHA256())
        )


@dataclass
class OldServer:
    """What stands in the other server's tables, and the devices themselves."""

    house: House
    ca: ForeignCA

    @classmethod
    def beside(cls, house: House) -> OldServer:
        return cls(house, ForeignCA.make(house.clock.now()))

    def device(self, **more: Any) -> Apple:
        """A device that is enrolled there."""
        device = self.house.device(**more)
        key = self.house.new_key()
        device.identity = cms.Identity(key, self.ca.issue(key.public_key()))
        return device

    def row(self, device: Apple, **more: Any) -> dict[str, Any]:
        """A whole row; None drops a field."""
        values = {
            "udid": device.udid,
            "certificate": pem(device),
            "topic": TOPIC,
            "push_token": "ab" * 32,
            "push_magic": f"magic-of-{device.udid}",
            "serial": device.serial,
            "product": device.product,
            "name": f"Old {device.serial}",
            "os_version": "26.0",
        } | more
        return {name: value for name, value in values.items() if value is not None}

    def registration(self, device: Apple, **more: Any) -> dict[str, Any]:
        """A row without push token: the device is to enroll by its own Authenticate."""
        return self.row(device, topic=None, push_token=None, push_magic=None, **more)

    async def imported(self, *rows: object, **more: Any) -> dict[str, Any]:
        """The report of one call."""
        report: dict[str, Any] = await self.house.call(
            "POST", IMPORTS, {"rows": list(rows), **more}
        )
        assert [row["row"] for row in report["rows"]] == list(range(len(rows)))
        return report

    async def outcomes(self, *rows: object, **more: Any) -> list[str]:
        """What became of each row: its outcome, or the code of its refusal."""
        report = await self.imported(*rows, **more)
        return [row["code"] or row["outcome"] for row in report["rows"]]

    async def here(self, **more: Any) -> Apple:
        """A device that was imported as it stood there."""
        device = self.device(**more)
        assert await self.outcomes(self.row(device)) == ["enrolled"]
        return device


def pem(device: Apple) -> str:
    assert device.identity is not None
    return device.identity.certificate.public_bytes(Encoding.PEM).decode()


def der(device: Apple) -> bytes:
    assert device.identity is not None
    return device.identity.certificate.public_bytes(Encoding.DER)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
