"""From a device's own words, through every service and Kafka, to the console's lists."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.rig import patiently
from tests.e2e.conftest import Workshop
from tests.e2e.rig import Person
from tools.simulator.conversation import Conversation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
BASE = "/api/v1/console"


async def test_what_a_device_says_is_in_the_list(workshop: Workshop, person: Person) -> None:
    device = await workshop.enrolled("iphone")
    device_id = await person.device_id(device)

    async def row() -> dict[str, Any]:
        path = f"{BASE}/devices?q={device.traits.serial}"
        found = (await person.ask("console", "GET", path))["items"]
        return found[0] if found else {}

    async def judged() -> bool:
        shown = await row()
        return shown.get("compliance") in {"compliant", "noncompliant"} and bool(
            shown["last_seen_at"]
        )

    await patiently(judged)
    shown = await row()
    assert shown["device_id"] == device_id
    assert (shown["status"], shown["platform"]) == ("enrolled", "ios")
    assert shown["certificate_until"]
    before = shown["compliance"]
    device.state.passcode_present = not device.state.passcode_present  # the baseline asks for one
    await person.command(device_id)
    await Conversation(device).run()

    async def judged_anew() -> bool:
        return bool((await row())["compliance"] != before)

    await patiently(judged_anew)
    path = f"{BASE}/devices/{device_id}/activity"
    told = [one["kind"] for one in (await person.ask("console", "GET", path))["items"]]
    assert {"device.enrolled", "verdict.changed"} <= set(told)
