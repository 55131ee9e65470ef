"""The simulator's devices, which know nothing of our code, enroll over TLS and find no fault."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from services.enrollment.app import SERVICE
from services.enrollment.pki.authority import create_authority, create_server
from shared.runtime.clock import FixedClock
from shared.runtime.testing import RecordedCalls, trial
from shared.sealed import ensure_service_keys
from tests.enrollment.conftest import House
from tools.embedded.home import free_port
from tools.embedded.testing import MakeDatabase
from tools.simulator.device import SimulatedDevice
from tools.simulator.keys import KeyStore
from tools.simulator.session import open_session


@dataclass(frozen=True)
class Outside:
    house: House
    session: aiohttp.ClientSession
    keys: KeyStore
    base: str

    def device(self, index: int, kind: str) -> SimulatedDevice:
        return SimulatedDevice("enrollment", index, kind=kind, keys=self.keys, session=self.session)  # type: ignore[arg-type]

    async def address(self, **wanted: object) -> str:
        return self.base + await self.house.credential(**wanted)


@pytest.fixture
async def outside(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Outside]:
    """The service behind TLS that only the profile's own root vouches for."""
    now = datetime.now(UTC).replace(microsecond=0)
    root = create_authority("Server CA", "Test", now=now, years=1)
    server = create_server(root, ["localhost"], now=now)
    files = {name: tmp_path / f"{name}.pem" for name in ("root", "cert", "key")}
    files["root"].write_bytes(root.certificate.public_bytes(Encoding.PEM))
    files["cert"].write_bytes(server.certificate.public_bytes(Encoding.PEM))
    private = server.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files["key"].write_bytes(private)
    for other in ("push_notifier", "command_queue"):
        ensure_service_keys(tmp_path / "keys", other)
    base = f"https://localhost:{free_port()}"
    environ = {
        "MUSTER_PUBLIC_URL": base,
        "MUSTER_DEVICES_HOST": "localhost",
        "MUSTER_DEVICES_PORT": base.rsplit(":", 1)[1],
        "MUSTER_DEVICES_TLS_CERT": str(files["cert"]),
        "MUSTER_DEVICES_TLS_KEY": str(files["key"]),
        "MUSTER_ENROLLMENT_SERVER_ROOTS": str(files["root"]),
    }
    clock, others = FixedClock(now), RecordedCalls()
    dsn = await make_database("enrollment")
    async with (
        trial(
            SERVICE, dsn, tmp_path / "keys", clock=clock, internal=others, environ=environ
        ) as service,
        open_session(files["root"]) as session,
    ):
        house = House(service, clock, others, iter(()))
        await house.push_certificate()
        yield Outside(house, session, KeyStore(tmp_path / "device-keys"), base)


@pytest.mark.parametrize("kind", ["iphone", "mac"])
async def test_a_simulated_device_enrolls_renews_and_checks_out(
    outside: Outside, kind: str
) -> None:
    device = outside.device(1, kind)
    await device.enroll(outside.session, await outside.address())
    assert device.managed.profile.roots  # the server's own CA came with the profile
    await outside.house.told()
    await device.renew()
    assert (await device.authenticate()).status == 200
    assert (await device.token_update()).status == 200
    assert (await outside.house.told()).enrollment.generation == 2
    if kind == "mac":
        assert await device.get_bootstrap_token() == device.managed.bootstrap_token
        assert (await device.token_update(device.traits.user)).status == 200
    assert (await device.check_out()).status == 200
    assert (await outside.house.told()).enrollment.state == "ended"
    assert not device.complaints


async def test_many_simulated_devices_enroll_with_one_credential(outside: Outside) -> None:
    address = await outside.address(max_uses=4)
    for index in range(4):
        device = outside.device(10 + index, "iphone")
        await device.enroll(outside.session, address)
        assert not device.complaints
    listed = await outside.house.call("GET", "/devices?state=enrolled")
    assert len(listed["items"]) == 4
