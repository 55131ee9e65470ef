"""Numbers that change elsewhere reach the page, and nobody is taken for being there by that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from playwright.async_api import Page, Request, expect

from services.console.http import overview_page
from shared.events.compliance import VerdictState
from shared.runtime.testing import RecordedCalls
from tests.console.browsing import signed_in
from tests.console.chromium import NEEDED, for_browsers, free_port, page_of
from tests.console.fleet import Console
from tests.console.pictured import GROUP_ID, POLICY_ID, others

pytestmark = NEEDED
READS = ["inventory.read", "compliance.read", "group.read"]


@pytest.fixture
def environ() -> dict[str, str]:
    return for_browsers(free_port())


@pytest.fixture
async def page(view: Console, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Page]:
    monkeypatch.setattr(overview_page, "_PAUSE_SECONDS", 0.1)
    async with page_of(await signed_in(view.service, everywhere=READS)) as page:
        yield page


@pytest.mark.parametrize("path", ["/policies", f"/policies/{POLICY_ID}", "/groups"])
async def test_counts_follow_the_fleet(
    view: Console, calls: RecordedCalls, page: Page, path: str
) -> None:
    device_id = await view.device(name="a")
    others(calls, [uuid4() for _ in range(7)], "service:test")
    asked: list[Request] = []

    def note(request: Request) -> None:
        asked.append(request)

    page.on("request", note)
    await page.goto(path)
    await expect(page.get_by_text("41", exact=False)).to_have_count(0)
    policies = "/api/v1/compliance/policies"
    policy = calls.answers["compliance", f"{policies}/{POLICY_ID}"]
    policy["counts"] = {"compliant": 41}
    groups = calls.answers["inventory", "/api/v1/inventory/groups?limit=50"]["items"]
    [group] = [one for one in groups if one["group_id"] == str(GROUP_ID) and one["members"]]
    group["members"] = 41
    await view.verdict(device_id, uuid4(), VerdictState.COMPLIANT)
    await expect(page.get_by_text("41", exact=False)).to_be_visible()
    own = [one for one in asked if one.url.endswith(path) and not one.is_navigation_request()]
    assert own
    assert {one.headers["x-by-itself"] for one in own} == {"yes"}
    assert all(one.headers.get("x-csrf-token") for one in own)
