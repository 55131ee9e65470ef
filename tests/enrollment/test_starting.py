"""What a start finds or makes: keys of the CA, encrypted, once for all processes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from prometheus_client import REGISTRY

from services.enrollment.authorities import Authorities
from services.enrollment.settings import EnrollmentSettings
from shared.bus import outbox
from shared.db.pool import open_pool
from shared.events.device_state import AuthorityPublished
from shared.runtime.clock import FixedClock
from shared.sealed import LocalCipher, ensure_service_keys
from tests.enrollment.conftest import PKI_OPERATION, House, payload_of
from tools.embedded.testing import MakeDatabase
from tools.simulator.wire import scep

LEFT = "muster_enrollment_authority_expires_seconds"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def cipher_in(folder: Path) -> LocalCipher:
    ensure_service_keys(folder, "enrollment")
    return LocalCipher.load(folder / "enrollment")


async def test_processes_that_start_together_agree_on_one_authority(
    make_database: MakeDatabase, tmp_path: Path
) -> None:
    cipher = cipher_in(tmp_path)
    pool = await open_pool(await make_database("enrollment"), name="test")
    try:
        all_of_them = [
            Authorities(pool, cipher, EnrollmentSettings(), FixedClock(NOW)) for _ in range(3)
        ]
        await asyncio.gather(*(one.refresh() for one in all_of_them))
        assert len({one.current.ca.certificate_bytes for one in all_of_them}) == 1
        assert len({one.current.ras[0].certificate_bytes for one in all_of_them}) == 1
        async with pool.acquire() as connection:
            assert len(await connection.fetch("SELECT FROM authority")) == 4
            published = await outbox.read(connection, "enrollment")
            assert [type(one) for one in published] == [AuthorityPublished]
            stored = [row["key"] for row in await connection.fetch("SELECT key FROM authority")]
        assert all_of_them[0].current.ca.key_bytes not in stored  # encrypted at rest
    finally:
        await pool.close()


async def test_helpers_are_renewed_before_they_end(
    make_database: MakeDatabase, tmp_path: Path
) -> None:
    """The CA stays; a request meant for the RA before is still opened."""
    clock = FixedClock(NOW)
    pool = await open_pool(await make_database("enrollment"), name="test")
    try:
        authorities = Authorities(pool, cipher_in(tmp_path), EnrollmentSettings(), clock)
        await authorities.refresh()
        left = REGISTRY.get_sample_value(LEFT, {"role": "ra"})
        assert left is not None
        clock.advance(timedelta(days=2))
        await authorities.refresh()
        assert REGISTRY.get_sample_value(LEFT, {"role": "ra"}) == left - 2 * 86_400
        clock.advance(timedelta(days=-2))
        first = authorities.current
        clock.advance(timedelta(days=70))
        await authorities.refresh()
        second = authorities.current
        assert second.ca.certificate == first.ca.certificate
        assert second.ocsp.certificate != first.ocsp.certificate  # 90 days
        assert second.ras[0].certificate == first.ras[0].certificate
        clock.advance(timedelta(days=3 * 365 - 80))
        await authorities.refresh()
        third = authorities.current
        assert third.ras[0].certificate != first.ras[0].certificate
        assert third.ras[1].certificate == first.ras[0].certificate
    finally:
        await pool.close()


async def test_a_process_follows_what_another_renewed(house: House, tmp_path: Path) -> None:
    """A client asks one process for its RA and sends the request for it to another."""
    context = house.service.context
    later = FixedClock(house.clock.now() + timedelta(days=3 * 365 - 10))
    other = Authorities(context.pool, cipher_in(tmp_path), EnrollmentSettings(), later)
    await other.refresh()
    assert len(other.current.ras) == 2
    document = await house.profile(await house.credential())
    content = payload_of(document, "com.apple.security.scep")["PayloadContent"]
    path = urlsplit(content["URL"]).path
    key, name = house.new_key(), scep.subject_name([[["CN", "whatever"]]])
    sent = scep.request(
        scep.certificate_request(key, name, content["Challenge"]),
        key,
        scep.self_signed(key, name),
        other.current.ras[0].certificate,
    )
    answer = await house.service.send("devices", "POST", path + PKI_OPERATION, sent.message)
    shown = other.current
    certificates = [shown.ras[0].certificate, shown.ca.certificate]
    assert len(scep.open_reply(answer.body, sent, certificates).certificates) == 1


async def test_rubbish_makes_nobody_look_more_often(house: House, tmp_path: Path) -> None:
    context = house.service.context
    authorities = Authorities(
        context.pool, cipher_in(tmp_path), EnrollmentSettings(), context.clock
    )
    await authorities.refresh()
    assert not await authorities.look_again()
    await house.query("DELETE FROM authority WHERE role = 'profile'")
    assert not await authorities.look_again()
