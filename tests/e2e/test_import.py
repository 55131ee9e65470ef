"""A device of another server: imported by `muster import`, then it polls and answers as if nothing
had happened to it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import plistlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tests.chaos.rig import patiently
from tests.e2e.rig import Person
from tests.enrollment.imported import ForeignCA
from tools.cli.main import main
from tools.simulator.wire import cms
from tools.simulator.wire.messages import CONNECT_TYPE, xml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

UDID = "00008110-00000000E2E01D07"


class Stranger:
    """A device that nothing here has issued anything to."""

    def __init__(self, person: Person) -> None:
        self.person = person
        key = rsa.generate_private_key(65537, 2048)
        certificate = ForeignCA.make(datetime.now(UTC)).issue(key.public_key())
        self.identity = cms.Identity(key, certificate)

    async def row(self) -> dict[str, Any]:
        topics = await self.person.cluster.query("enrollment", "SELECT topic FROM push_certificate")
        pem = self.identity.certificate.public_bytes(Encoding.PEM).decode()
        return {
            "udid": UDID,
            "serial": "E2EIMPORTED",
            "certificate": pem,
            "topic": topics[0]["topic"],
            "push_token": "cd" * 32,
            "push_magic": "magic",
            "product": "iPhone15,2",
        }

    async def says(self, **message: str) -> tuple[int, Mapping[str, Any]]:
        """One request to the connect endpoint: status, and the command in the answer."""
        body = xml({"UDID": UDID, **message})
        signature = base64.b64encode(cms.sign(body, [self.identity])).decode()
        headers = {"Content-Type": CONNECT_TYPE, "Mdm-Signature": signature}
        url = f"{self.person.cluster.devices_url}/mdm/apple/connect"
        async with self.person.session.put(url, data=body, headers=headers) as answer:
            content = await answer.read()
            known = answer.ok and content
            return answer.status, plistlib.loads(content) if known else {}


async def test_an_imported_device_polls_and_answers(
    person: Person,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    device = Stranger(person)

    async def certified() -> dict[str, Any] | None:
        try:
            return await device.row()
        except IndexError:  # the first push certificate is on its way
            return None

    row = await patiently(certified, seconds=30)
    assert (await device.says(Status="Idle"))[0] == 400
    file, report = tmp_path / "devices.jsonl", tmp_path / "report.jsonl"
    file.write_text(json.dumps(row) + "\nnonsense\n")
    monkeypatch.setenv("MUSTER_API_URL", person.cluster.api_url)
    monkeypatch.setenv("MUSTER_TOKEN_ENROLLMENT", person.cluster.token("enrollment"))
    words = ["import", str(file), "--report", str(report)]
    assert await asyncio.to_thread(main, [*words, "--dry-run"]) == 1
    assert not await person.devices(q="E2EIMPORTED")
    assert await asyncio.to_thread(main, words) == 1
    [found] = await person.devices(q="E2EIMPORTED")
    said = [json.loads(line) for line in report.read_text().splitlines()]
    assert {one["line"]: one["outcome"] for one in said} == {1: "enrolled", 2: "refused"}
    assert row["push_magic"] not in report.read_text() + capsys.readouterr().out
    file.write_text(json.dumps(row))
    assert await asyncio.to_thread(main, words) == 0
    assert "already_there" in capsys.readouterr().out

    async def served() -> bool:
        return (await device.says(Status="Idle"))[0] == 200

    await patiently(served, seconds=30)
    command_id = await person.command(found["device_id"])
    outcomes = {}

    async def answered() -> bool:
        _, given = await device.says(Status="Idle")
        while given:
            outcomes[given["CommandUUID"].lower()] = given["Command"]["RequestType"]
            _, given = await device.says(Status="Acknowledged", CommandUUID=given["CommandUUID"])
        # Its own command, and the inventory that an import asks for.
        return command_id in outcomes and "DeviceInformation" in outcomes.values()

    await patiently(answered, seconds=60)
    assert await person.state(command_id) == "acknowledged"
