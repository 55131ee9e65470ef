"""The way from NanoMDM's tables, as docs/import.md describes it: its query, over such tables."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import plistlib
from pathlib import Path
from typing import Any

import pytest

from shared.events.device_state import DeviceState
from tests.enrollment.conftest import TOPIC, Apple, House
from tests.enrollment.imported import BOOTSTRAP, UNLOCK, OldServer, der, pem
from tests.enrollment.test_import import old
from tools.cli.imports import Tally, chunks

__all__ = ["old"]

PAGE = Path(__file__).parents[2] / "docs" / "import.md"
# The columns that the query reads, typed as NanoMDM's schema types them.
SCHEMA = """
CREATE TEMPORARY TABLE devices (
    id varchar(255) PRIMARY KEY, identity_cert text, serial_number varchar(127), unlock_token text,
    authenticate text NOT NULL, bootstrap_token_b64 text);
CREATE TEMPORARY TABLE enrollments (
    id varchar(255) PRIMARY KEY, device_id varchar(255) NOT NULL, user_id varchar(255),
    type varchar(31) NOT NULL, topic varchar(255) NOT NULL, push_magic varchar(127) NOT NULL,
    token_hex varchar(255) NOT NULL, enabled boolean NOT NULL);
CREATE TEMPORARY TABLE cert_auth_associations (
    id varchar(255) NOT NULL, sha256 char(64) NOT NULL, PRIMARY KEY (id, sha256));
"""


def query() -> str:
    """What the page tells people to run."""
    lines = PAGE.read_text("utf-8").splitlines()
    begin = next(n for n, line in enumerate(lines) if line.endswith("<<'SQL'"))
    end = lines.index("    SQL", begin)
    return "\n".join(lines[begin + 1 : end])


class Nano:
    """A NanoMDM's tables, on a connection of their own."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def knows(self, device: Apple, **more: Any) -> None:
        said = device.authenticate()
        values = {
            "type": "Device",
            "enabled": True,
            "hash": hashlib.sha256(der(device)).hexdigest(),
        }
        values |= more
        await self.connection.execute(
            "INSERT INTO devices VALUES ($1, $2, $3, $4, $5, $6)",
            device.udid,
            pem(device),
            device.serial,
            UNLOCK.decode() if values["type"] == "Device" else None,
            plistlib.dumps(said).decode(),
            base64.encodebytes(BOOTSTRAP * 4).decode(),
        )
        await self.connection.execute(
            "INSERT INTO enrollments VALUES ($1, $1, NULL, $2, $3, 'magic', $4, $5)",
            device.udid,
            values["type"],
            TOPIC,
            "ab" * 32,
            values["enabled"],
        )
        await self.connection.execute(
            "INSERT INTO cert_auth_associations VALUES ($1, $2)", device.udid, values["hash"]
        )

    async def exported(self) -> bytes:
        """What `psql -At` writes."""
        rows = await self.connection.fetch(f"SELECT x::text FROM ({query().rstrip(';')}) AS q (x)")
        return "".join(row[0] + "\n" for row in rows).encode()


async def test_devices_come_over_from_nanomdm(house: House, old: OldServer) -> None:
    phone, personal, renewed, left = (
        old.device(),
        old.device(serial=None, product="iPhone16,1"),
        old.device(),
        old.device(),
    )
    async with house.service.context.pool.acquire() as connection, connection.transaction():
        await connection.execute(SCHEMA)
        nano = Nano(connection)
        await nano.knows(phone)
        await nano.knows(personal, type="User Enrollment (Device)")
        await nano.knows(renewed, hash="0" * 64)
        await nano.knows(left, enabled=False)
        file = await nano.exported()
        for table in ("devices", "enrollments", "cert_auth_associations"):
            await connection.execute(f"DROP TABLE pg_temp.{table}")
    tally = Tally()
    [chunk] = chunks(io.BytesIO(file), 500, tally)
    assert not tally.refused
    assert await old.outcomes(*chunk.rows) == ["enrolled", "enrolled"]
    states = {state.enrollments[0].udid: state for state in (await house.told()).of(DeviceState)}
    assert set(states) == {phone.udid, personal.udid}
    state = states[phone.udid]
    assert (state.serial, state.product, state.os_version) == (phone.serial, "iPhone15,2", "26.1")
    assert state.enrollments[0].channels[0].unlock_token is not None
    assert states[personal.udid].enrollments[0].mode == "user"
    personal.id_key = "EnrollmentID"
    for device in (phone, personal):
        assert (await house.check_in(device, device.token_update())).status == 200


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe", b"nonsense", b'{"a": ' + b"[" * 100_000])
def test_a_line_that_is_no_json_is_named_and_not_shown(line: bytes) -> None:
    tally = Tally()
    found = list(chunks(io.BytesIO(b'{"udid": "A"}\n\n' + line + b'\n{"udid": "B"}'), 500, tally))
    assert [(chunk.lines, chunk.rows) for chunk in found] == [
        ([1, 4], [{"udid": "A"}, {"udid": "B"}])
    ]
    assert tally.refused == {"line_malformed": [3]}
    assert tally.details == {"line_malformed": "the line is not JSON"}


def test_a_file_is_cut_by_rows_and_by_bytes() -> None:
    rows = [{"n": n, "token": "x" * 60_000} for n in range(200)]
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    cut = list(chunks(io.BytesIO(lines), 500, Tally()))
    assert [row for chunk in cut for row in chunk.rows] == rows
    assert all(sum(len(json.dumps(row)) for row in chunk.rows) < 4.2e6 for chunk in cut)
    assert cut[-1].end == len(lines)
    assert [len(chunk.rows) for chunk in chunks(io.BytesIO(lines), 80, Tally())][:1] == [69]
    tally = Tally()
    giant = b'{"token": "' + b"x" * 2_000_000 + b'"}\n{"udid": "B"}\n'
    [chunk] = chunks(io.BytesIO(giant), 500, tally)
    assert (chunk.lines, chunk.rows) == ([2], [{"udid": "B"}])
    assert tally.details == {"line_malformed": "a line holds at most 524288 bytes"}
