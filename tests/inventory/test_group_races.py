"""All that moves members, at once: nobody dies of a deadlock, and every count is right."""

from __future__ import annotations

import asyncio
import random
from typing import Any
from uuid import UUID

from shared.events import uuid7
from shared.events.groups import DeviceGroups

PATH = "/api/v1/inventory/groups"
COUNTS = """
SELECT g.group_id, g.members,
       (SELECT count(*) FROM membership AS m WHERE m.group_id = g.group_id) AS really
FROM device_group AS g WHERE deleted_at IS NULL
"""
HELD = """
SELECT device_id, array_agg(group_id ORDER BY group_id) AS groups
FROM membership JOIN device_group USING (group_id) WHERE deleted_at IS NULL GROUP BY device_id
"""


async def test_rivals_leave_a_true_picture(inventory: Any) -> None:
    chance = random.Random(44)
    service, devices = inventory.service, sorted(uuid7() for _ in range(60))
    await service.hears(*(inventory.state(one) for one in devices), service="enrollment")
    groups = []
    for n in range(5):
        made = await service.call("POST", PATH, {"name": f"G{n}"})
        groups.append(UUID(made.json["group_id"]))
    leaving = devices[::10]

    async def move(group: UUID, path: str) -> None:
        for _ in range(6):
            # Named in any order; those that are deleted meanwhile refuse the whole.
            some = chance.sample(devices, 30)
            answer = await service.call("POST", f"{PATH}/{group}{path}", {"device_ids": some})
            assert answer.status in (200, 404, 422), answer.text

    async def forget() -> None:
        for device in leaving:
            end = inventory.state(device, deleted=True)
            await service.hears(end, service="enrollment")

    async def dissolve() -> None:
        assert (await service.call("DELETE", f"{PATH}/{groups[0]}")).status == 204
        for _ in range(10):
            await service.run_job("dissolve")
            await service.run_job("retell")

    for group in groups:
        body = {"device_ids": devices}
        assert (await service.call("POST", f"{PATH}/{group}/members", body)).status == 200
    await asyncio.gather(
        forget(),
        dissolve(),
        *(move(group, path) for group in groups for path in ("/members", "/members/remove")),
    )
    while await service.run_job("dissolve"):
        pass
    rows = await service.context.pool.fetch(COUNTS)
    assert [row["members"] for row in rows] == [row["really"] for row in rows]
    told = {event.device_id: event.groups for event in (await inventory.told()).of(DeviceGroups)}
    held = {row["device_id"]: row["groups"] for row in await service.context.pool.fetch(HELD)}
    assert {device: of for device, of in told.items() if of} == held
    assert not set(leaving) & held.keys()
    assert await service.context.pool.fetchval("SELECT count(*) FROM device") == 54
