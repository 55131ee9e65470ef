"""The pages about people have no serious accessibility fault, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import ViewportSize

from services.console.app import SERVICE
from shared.runtime.testing import Trial, trial
from tests.conftest import REPOSITORY
from tests.console.browsing import signed_in
from tests.console.chromium import NEEDED, chromium, for_browsers, free_port
from tools.embedded import assets
from tools.embedded.home import Home
from tools.embedded.testing import MakeDatabase

pytestmark = NEEDED
SIZES = [ViewportSize(width=1280, height=900), ViewportSize(width=390, height=844)]


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    environ = for_browsers(free_port())
    async with trial(SERVICE, await make_database("console"), tmp_path, environ=environ) as running:
        yield running


async def _provider(service: Trial) -> object:
    return await service.context.pool.fetchval(
        "INSERT INTO identity_provider (provider_id, name, issuer, client_id, client_secret, "
        "made_at, changed_at, enabled) VALUES (gen_random_uuid(), 'Company', "
        "'https://idp.example', 'muster', 'x', now(), now(), true) RETURNING provider_id"
    )


async def _webhook(service: Trial) -> object:
    webhook_id = await service.context.pool.fetchval(
        "INSERT INTO webhook (webhook_id, name, url, secret, event_types, made_at, made_by) VALUES "
        "(gen_random_uuid(), 'SIEM', 'https://siem.example/hook', 'x', '{a.b}', now(), 'test') "
        "RETURNING webhook_id"
    )
    await service.context.pool.execute(
        "INSERT INTO delivery (delivery_id, webhook_id, event_id, event_type, subject, body, "
        "state, made_at, next_at) VALUES (gen_random_uuid(), $1, gen_random_uuid(), "
        "'muster.device.unenrolled.v1', gen_random_uuid(), '', 'dead', now(), now())",
        webhook_id,
    )
    return webhook_id


async def test_no_serious_fault_and_nothing_wider_than_the_screen(service: Trial) -> None:
    url = service.context.settings.address
    owner = await signed_in(service, role="owner")
    paths = [
        "/settings/people",
        f"/settings/people/{owner.account_id}",
        "/settings/roles",
        "/settings/identity",
        f"/settings/identity/{await _provider(service)}",
        f"/settings/people/{owner.account_id}/identities",
        "/me/identities",
        "/settings/webhooks",
        f"/settings/webhooks/{await _webhook(service)}",
        "/me/password",
        "/me/factors",
        "/me/tokens",
        "/me/sessions",
    ]
    axe = (assets.axe(Home.at(REPOSITORY / ".muster"))).read_text()
    faults: list[object] = []
    async with chromium() as browser:
        for size in SIZES:
            for scheme in ("light", "dark"):
                # The policy lets no foreign script in, and axe is one.
                context = await browser.new_context(
                    color_scheme="dark" if scheme == "dark" else "light",
                    viewport=size,
                    bypass_csp=True,
                )
                page = await context.new_page()
                for path in ["/sign-in", "/sealed", *paths]:
                    if path in paths:
                        secret = owner.cookies["muster"]
                        await context.add_cookies([{"name": "muster", "value": secret, "url": url}])
                    await page.goto(url + path)
                    if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                        faults.append((path, size, "wider than the screen"))
                    await page.evaluate(axe)
                    found = await page.evaluate("axe.run()")
                    faults += [
                        (path, scheme, size, fault["id"], fault["nodes"][0]["html"])
                        for fault in found["violations"]
                        if fault["impact"] in {"serious", "critical"}
                    ]
    assert faults == []
