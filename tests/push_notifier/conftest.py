"""push_notifier's parts before the stand-in for APNs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.push_notifier.certificates import Certificates
from services.push_notifier.sending import Sender
from services.push_notifier.settings import PushSettings
from services.push_notifier.stand_in import StandInPortal
from shared.db.pool import open_pool
from shared.runtime.clock import FixedClock
from shared.runtime.testing import RecordedCalls
from shared.sealed import Keyring, LocalCipher, PublicKeys, ensure_service_keys
from tests.push_notifier.road import Road
from tools.embedded.apns import ApnsStandIn
from tools.embedded.testing import MakeDatabase


@pytest.fixture
async def road(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Road]:
    apns = ApnsStandIn(tmp_path / "apns")
    await apns.start()
    keys = tmp_path / "keys"
    ensure_service_keys(keys, "push_notifier")
    pool = await open_pool(await make_database("push_notifier"), name="test")
    settings = PushSettings(
        apns_host="127.0.0.1",
        apns_port=apns.port,
        apns_trust=apns.trust,
        apns_portal_url=f"{apns.side_url}/portal/certificate",
        send_timeout=5,
    )
    # A minute ahead of the database's clock: what handlers make due "now" is due.
    clock = FixedClock(datetime.now(UTC) + timedelta(minutes=1))
    cipher, calls = LocalCipher.load(keys / "push_notifier"), RecordedCalls()
    certificates = Certificates(pool, cipher, calls, settings, clock)
    keyring = Keyring.load(keys / "push_notifier")
    sender = Sender(pool, keyring, certificates, settings, clock)
    portal = StandInPortal(pool, settings.apns_portal_url or "", certificates)
    await portal.run()
    apns.received.clear()  # the push that tried the certificate
    public = PublicKeys(keys / "public")
    yield Road(
        pool, clock, settings, certificates, sender, portal, public, apns, cipher, keyring, calls
    )
    certificates.close()
    await pool.close()
    await apns.stop()
