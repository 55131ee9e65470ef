"""What enrollment encrypts, after its keys were rotated and the old ones were taken away."""

from __future__ import annotations

import pytest

from tests.enrollment.conftest import House
from tests.enrollment.test_escrow import bootstrap_token
from tests.renewed import renewed


async def test_devices_and_authorities_go_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    mac, phone = await house.enrolled(product="Mac15,3"), await house.enrolled()
    await house.check_in(phone, phone.token_update(UnlockToken=b"unlock me"))
    await house.check_in(mac, mac.message("SetBootstrapToken", BootstrapToken=b"bootstrap"))
    context = house.service.context
    settings = context.settings
    held = await renewed("enrollment", context.pool, settings.keys_dir, monkeypatch)
    assert set(held) == {
        *("authority.key", "channel.push", "channel.unlock_token", "enrollment.bootstrap_token")
    }
    assert all(held.values()), held
    assert await bootstrap_token(house, mac) == b"bootstrap"
    later = await house.enrolled()
    assert phone.udid != later.udid
