"""The screen Groups, over inventory's API, and putting devices of the list into one."""

from __future__ import annotations

from typing import Any

import pytest

from shared.events import uuid7
from shared.runtime.testing import RecordedCalls
from tests.console.browsing import Browser, signed_in, words_of
from tests.console.fleet import START, Console

GROUPS = "/api/v1/inventory/groups"
GROUP_ID = uuid7()
ONE = f"{GROUPS}/{GROUP_ID}"
NOTHING: dict[str, Any] = {"items": [], "next": None}


@pytest.fixture
def calls() -> RecordedCalls:
    calls = RecordedCalls()
    calls.answers["inventory", f"{GROUPS}?limit=50"] = NOTHING
    calls.answers["inventory", ONE] = _group()
    calls.answers["inventory", f"{ONE}/members?limit=50"] = NOTHING
    return calls


@pytest.fixture
async def owner(view: Console) -> Browser:
    return await signed_in(view.service, role="owner")


def _group(**changes: Any) -> dict[str, Any]:
    return {
        "group_id": str(GROUP_ID),
        "name": "Field <b>service</b>",
        "description": None,
        "protected": True,
        "members": 1200,
        "created_at": START.isoformat(),
        "created_by": "service:test",
        "changed_at": START.isoformat(),
        "changed_by": "service:test",
    } | changes


def _said(calls: RecordedCalls) -> list[tuple[str, str, Any]]:
    return [call[1:4] for call in calls.calls if call[1] != "GET"]


async def test_groups_are_listed_with_their_devices(owner: Browser, calls: RecordedCalls) -> None:
    assert "There is no group yet" in words_of(await owner.get("/groups"))
    calls.answers["inventory", f"{GROUPS}?limit=50&q=field"] = {"items": [_group()], "next": "on"}
    shown = await owner.get("/groups?q=field&cursor=")
    assert "Field <b>service</b> 1,200 Protected" in words_of(shown)
    assert f'href="/devices?group={GROUP_ID}"' in shown.text
    assert "<b>service" not in shown.text
    assert 'href="/groups?cursor=on&amp;q=field"' in shown.text


async def test_one_is_made(owner: Browser, calls: RecordedCalls) -> None:
    calls.answers["inventory", GROUPS] = {"group_id": str(GROUP_ID)}
    answer = await owner.post("/groups", {"name": "Till", "description": "", "protected": "true"})
    assert (answer.status, answer.headers["Location"]) == (303, f"/groups/{GROUP_ID}")
    body = {"name": "Till", "description": None, "protected": True, "reason": None}
    assert _said(calls) == [("POST", GROUPS, body)]


async def test_members_are_shown_and_taken_out(owner: Browser, calls: RecordedCalls) -> None:
    assert "It is empty" in words_of(await owner.get(f"/groups/{GROUP_ID}"))
    device_id = uuid7()
    member = {
        "device_id": str(device_id),
        "name": None,
        "serial": "C39XK00001",
        "platform": "ios",
        "added_at": START.isoformat(),
        "added_by": "service:test",
    }
    calls.answers["inventory", f"{ONE}/members?limit=50"] = {"items": [member], "next": None}
    shown = await owner.get(f"/groups/{GROUP_ID}")
    assert f'href="/devices/{device_id}"' in shown.text
    assert "C39XK00001" in words_of(shown)
    calls.answers["inventory", f"{ONE}/members/remove"] = {"moved": 1, "members": 0}
    fields = {"device": str(device_id), "reason": "sold"}
    assert (await owner.post(f"/groups/{GROUP_ID}/members/remove", fields)).status == 303
    body = {"device_ids": [str(device_id)], "reason": "sold"}
    assert _said(calls) == [("POST", f"{ONE}/members/remove", body)]


async def test_protection_is_taken_away_and_a_group_deleted_after_step_up_only(
    owner: Browser, calls: RecordedCalls
) -> None:
    renamed = {"name": "Till", "protected": "true"}
    assert (await owner.post(f"/groups/{GROUP_ID}", renamed)).status == 303
    assert [method for method, _, _ in _said(calls)] == ["PATCH"]
    calls.calls.clear()
    refused = await owner.post(f"/groups/{GROUP_ID}", {"name": "Till"})
    assert (refused.status, "Take the protection off" in words_of(refused)) == (403, True)
    refused = await owner.post(f"/groups/{GROUP_ID}/delete", {"reason": "empty"})
    assert (refused.status, "Delete the group" in words_of(refused)) == (403, True)
    assert _said(calls) == []


@pytest.mark.usefixtures("proven")
async def test_a_group_is_deleted_with_its_reason(owner: Browser, calls: RecordedCalls) -> None:
    calls.answers["inventory", f"{ONE}?reason=no+longer"] = {}
    assert (await owner.post(f"/groups/{GROUP_ID}/delete", {"reason": "no longer"})).status == 303
    assert _said(calls) == [("DELETE", f"{ONE}?reason=no+longer", None)]
    assert (await owner.post(f"/groups/{GROUP_ID}/delete", {"reason": ""})).status == 422


async def test_devices_of_the_list_are_put_into_a_group(
    view: Console, owner: Browser, calls: RecordedCalls
) -> None:
    devices = [await view.device(name=f"iPad {number}") for number in range(3)]
    await view.device(name="gone", status="ended")
    group_id = await view.group("Till")
    assert 'formaction="/groups/place"' in (await owner.get("/devices")).text
    where = f"/groups/place?id={devices[0]}&id={devices[1]}"
    shown = await owner.get(where)
    assert "Groups: 2 devices" in words_of(shown)
    assert f'value="{group_id}"' in shown.text
    calls.answers["inventory", f"{GROUPS}/{group_id}/members"] = {"moved": 2, "members": 2}
    fields = {"group": str(group_id), "act": "add", "count": "2", "reason": "new shop"}
    answer = await owner.post(where, fields)
    assert (answer.status, answer.headers["Location"]) == (303, f"/groups/{group_id}")
    body = {"device_ids": [str(one) for one in devices[:2]], "reason": "new shop"}
    assert _said(calls) == [("POST", f"{GROUPS}/{group_id}/members", body)]

    calls.calls.clear()
    whole = "/groups/place?whole=true"
    assert "Groups: 3 devices" in words_of(await owner.get(whole))
    await view.device(name="newcomer")
    answer = await owner.post(whole, fields | {"count": "3", "act": "remove"})
    assert (answer.status, "The list has changed" in words_of(answer)) == (422, True)
    answer = await owner.post(whole, {"count": "4"})
    assert (answer.status, "Choose a group" in words_of(answer)) == (422, True)
    assert _said(calls) == []


async def test_rights_on_a_group_reach_no_further(view: Console, calls: RecordedCalls) -> None:
    own, other = await view.device(name="own"), await view.device(name="other")
    group_id = await view.group("Mine", own)
    await view.group("Theirs", other)
    rights = ["inventory.read", "group.read", "group.members"]
    person = await signed_in(view.service, groups={group_id: rights})
    shown = await person.get(f"/groups/place?id={own}&id={other}")
    assert "Groups: 1 device" in words_of(shown)
    assert "1 of the list is left out" in words_of(shown)
    assert "Theirs" not in words_of(shown)
    reader = await signed_in(view.service, everywhere=["inventory.read", "group.read"])
    assert (await reader.get("/groups/place?whole=true")).status == 403
    assert "needs the permission group.members" in words_of(await reader.get("/devices"))
    calls.failing.add("inventory")
    assert (await reader.get("/groups")).status == 503
