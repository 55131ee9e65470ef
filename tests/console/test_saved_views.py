"""Saved views: lists of devices under a name, one's own or everybody's."""

from __future__ import annotations

import re
from uuid import uuid4

from tests.console.browsing import Browser, signed_in, words_of
from tests.console.fleet import Console

READ = "inventory.read"


async def _views(browser: Browser) -> dict[str, str]:
    """Name → where it leads, as the page lists them."""
    page = await browser.get("/devices")
    found = re.search(r'id="views">(.*?)<details', page.text, re.DOTALL)
    assert found
    links = re.findall(r'href="(/devices\?[^"]*)"[^>]*>([^<]+)', found[1])
    return {name: path.replace("&amp;", "&") for path, name in links}


async def test_a_list_is_saved_under_a_name_and_shown_again(view: Console) -> None:
    browser = await signed_in(view.service, everywhere=[READ])
    await view.device(name="A Mac", platform="macos")
    await view.device(name="A phone")
    page = await browser.get("/devices?platform=macos&sort=seen&limit=1&cursor=")
    hidden = re.search(r'form="save-view" name="query" value="([^"]*)"', page.text)
    assert hidden
    query = hidden[1].replace("&amp;", "&")
    assert query == "platform=macos&sort=seen"
    made = await browser.post("/views", {"name": "Macs", "query": f"{query}&cursor=x"})
    assert (made.status, made.headers["Location"]) == (303, f"/devices?{query}")
    assert await _views(browser) == {"Macs": f"/devices?{query}"}
    shown = await browser.get(f"/devices?{query}")
    assert "A Mac" in shown.text
    assert "A phone" not in shown.text
    assert re.search(r'aria-current="page">Macs', shown.text)
    await browser.post("/views", {"name": "MACS", "query": "platform=macos"})
    assert await _views(browser) == {"MACS": "/devices?platform=macos"}


async def test_what_is_no_list_is_not_saved(view: Console) -> None:
    browser = await signed_in(view.service, everywhere=[READ])
    assert "No view is saved yet" in words_of(await browser.get("/devices"))
    for query in ("platform=toaster", "sort=colour", "x=y", "os=none"):
        assert (await browser.post("/views", {"name": "Bad", "query": query})).status == 400
    for name in ("", "  ", "\t"):
        assert (await browser.post("/views", {"name": name, "query": ""})).status == 422
    assert await _views(browser) == {}


async def test_others_see_what_is_shared_and_delete_only_their_own(view: Console) -> None:
    ada = await signed_in(view.service, everywhere=[READ])
    device_id = await view.device()
    group = await view.group("Field", device_id)
    bob = await signed_in(view.service, groups={group: [READ]}, name="Bob")
    chief = await signed_in(view.service, everywhere=[READ, "people.write"], name="Chief")
    await ada.post("/views", {"name": "Mine", "query": "platform=ios"})
    await ada.post("/views", {"name": "Ours", "query": "platform=macos", "shared": "true"})
    assert set(await _views(ada)) == {"Mine", "Ours"}
    for other in (bob, chief):
        assert set(await _views(other)) == {"Ours"}
    [shared] = set(re.findall(r"/views/([\w-]+)/delete", (await chief.get("/devices")).text))
    own = set(re.findall(r"/views/([\w-]+)/delete", (await ada.get("/devices")).text))
    assert (shared in own, len(own)) == (True, 2)
    assert "/delete" not in (await bob.get("/devices")).text
    [mine] = own - {shared}
    assert (await bob.post(f"/views/{shared}/delete")).status == 404
    assert (await chief.post(f"/views/{mine}/delete")).status == 404
    assert (await chief.post(f"/views/{shared}/delete")).status == 303
    assert set(await _views(ada)) == {"Mine"}
    assert (await ada.post(f"/views/{mine}/delete")).status == 303
    assert await _views(ada) == {}


async def test_programs_save_views_too(view: Console) -> None:
    ada = await signed_in(view.service, everywhere=[READ])
    actor, api = f"account:{ada.account_id}", "/api/v1/console/views"
    body = {"name": "Stale", "query": "seen=not_month", "shared": True}
    made = await view.service.call("POST", api, body, actor=actor)
    listed = (await view.service.call("GET", api, actor=actor)).json["items"]
    assert [(one["name"], one["query"], one["own"], one["by"]) for one in listed] == [
        ("Stale", "seen=not_month", True, "Ada Lovelace")
    ]
    assert set(await _views(ada)) == {"Stale"}
    assert (
        await view.service.call("POST", api, body | {"query": "x=y"}, actor=actor)
    ).status == 400
    other = f"{api}/{uuid4()}"
    assert (await view.service.call("DELETE", other, actor=actor)).status == 404
    gone = await view.service.call("DELETE", f"{api}/{made.json['view_id']}", actor=actor)
    assert gone.status == 204
    assert (await view.service.call("GET", api, actor=actor)).json["items"] == []
    assert (await view.service.call("POST", api, body, actor="service:x")).status == 403


async def test_there_is_a_bound(view: Console) -> None:
    browser = await signed_in(view.service, everywhere=[READ])
    for number in range(50):
        assert (await browser.post("/views", {"name": f"n{number}"})).status == 303
    assert (await browser.post("/views", {"name": "one more"})).status == 409
    assert (await browser.post("/views", {"name": "n7", "query": "platform=ios"})).status == 303
