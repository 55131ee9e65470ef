"""A person with rights on one group, at every route: what is outside of it does not exist.

Each scoped route has its rows in WALK. A row is asked of a device outside, by somebody who has all
permissions on the group of the device inside; then, to show that the row asks rightly, by somebody
with all rights; then of the device inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from shared.events.groups import DeviceGroups
from shared.runtime.routes import Route
from shared.runtime.testing import Answer
from tests.contract.scenes import SCENES, Scene, Thing
from tools.cli import services
from tools.embedded.testing import MakeDatabase


@dataclass(frozen=True)
class Row:
    """How one route is asked. `refused`: what people with the other group get; `done`: the rest."""

    method: str
    path: str
    _: KW_ONLY
    query: str = ""
    body: Callable[[Thing], Any] | None = None
    refused: int = 404
    code: str = "device_unknown"
    done: int = 200
    shows: bool = True
    """Whether the answer names its device to those who may see it."""
    held: bool = False
    """Of the command that waits for approval."""
    waiting: int = 0
    """Which of the two that wait in the lobby."""

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.path

    def url(self, of: Thing) -> str:
        device = of.device_id
        names = {"device_id": device, "id": device, "group_id": of.group_id, "view_id": device}
        command_id = of.held_id if self.held else of.command_id
        if of.waiting:
            names["enrollment_id"] = of.waiting[self.waiting]
        names["secret_id"] = of.group_id  # no secret of the device's
        return self.path.format(**names, command_id=command_id) + self.query.format(of=of)


def _listed(path: str, query: str = "") -> Row:
    """A list leaves out what is outside."""
    return Row("GET", path, query=query, refused=200)


def _command(**targets: Any) -> Callable[[Thing], Any]:
    """A new request each time; a target may be made of the thing."""

    def body(of: Thing) -> Any:
        _command_keys.append(None)
        return {
            "kind": "inventory.refresh",
            "params": {"section": "security"},
            "idempotency_key": f"walk {len(_command_keys)}",
            **{name: value(of) if callable(value) else value for name, value in targets.items()},
        }

    return body


_command_keys: list[None] = []
_I, _E, _C = "/api/v1/inventory", "/api/v1/enrollment", "/api/v1/commands"
_V = "/api/v1/console"
_DEVICE, _GROUP = f"{_I}/devices/{{device_id}}", f"{_I}/groups/{{group_id}}"


def _act(path: str, body: Any = None, **expected: Any) -> Row:
    """A POST whose answer does not name the device."""
    made = body if callable(body) else lambda _: body or {}
    return Row("POST", path, body=made, shows=False, **expected)


def _word(_: Thing) -> Any:
    later = datetime.now(UTC) + timedelta(hours=1)
    return {"approval_expires_at": later.isoformat(), "credential": {}}


def _members(path: str) -> Row:
    def body(of: Thing) -> Any:
        return {"device_ids": [of.device_id]}

    return Row("POST", path, body=body, code="group_unknown", shows=False)


_VIA: Final = "session:walk"
_WHY: Final = {"reason": "walk"}

# In this order: what ends something comes last.
WALK: Final = (
    _listed(f"{_I}/devices"),
    _listed(f"{_I}/devices", "?q=serial"),
    Row("GET", _DEVICE),
    Row("GET", f"{_DEVICE}/facts"),
    *(
        Row("GET", f"{_DEVICE}/{one}", shows=False)
        for one in ("applications", "profiles", "certificates")
    ),
    Row("GET", f"{_DEVICE}/history"),
    Row("GET", f"{_DEVICE}/history", query="?section=profiles", shows=False),
    _act(f"{_DEVICE}/refresh", done=202),
    _listed(f"{_I}/groups"),
    Row("GET", _GROUP, code="group_unknown"),
    Row("GET", f"{_GROUP}/members", code="group_unknown"),
    Row("PATCH", _GROUP, body=lambda _: {"description": "x"}, code="group_unknown"),
    _members(f"{_GROUP}/members"),
    _members(f"{_GROUP}/members/remove"),
    _listed(f"{_E}/devices"),
    _listed(f"{_E}/devices", "?q=SERIAL"),
    Row("GET", f"{_E}/devices/{{id}}"),
    _listed(f"{_E}/certificates"),
    Row("GET", f"{_E}/certificates", query="?device_id={of.device_id}", refused=200),
    Row("PATCH", f"{_E}/devices/{{id}}", body=lambda _: {"tags": ["x"]}),
    _listed(f"{_E}/lobby"),
    Row("GET", f"{_E}/lobby/counts", refused=200, shows=False),
    Row("GET", f"{_E}/lobby/groups", query="?by=credential", refused=200, shows=False),
    Row("GET", f"{_E}/lobby/{{enrollment_id}}", code="enrollment_unknown"),
    *(
        Row(
            "POST",
            f"{_E}/lobby/{{enrollment_id}}/{word}",
            body=lambda _: _WHY,
            code="enrollment_unknown",
            waiting=which,
        )
        for which, word in enumerate(("refuse", "release"))
    ),
    _act(f"{_E}/devices/{{id}}/release", _WHY, done=404),
    _act(f"{_E}/devices/{{id}}/renewal-profile"),
    _act(f"{_E}/devices/{{id}}/revoke", _WHY),
    _listed(_C),
    Row("GET", f"{_C}/devices/{{device_id}}"),
    Row("GET", f"{_C}/devices/{{device_id}}/possible", shows=False),
    Row("GET", f"{_C}/devices/{{device_id}}/secrets", shows=False),
    # Who reaches the device is told that it has no such secret.
    _act(f"{_C}/devices/{{device_id}}/secrets/{{secret_id}}/reveal", _WHY, done=404),
    Row("GET", f"{_C}/{{command_id}}", code="command_unknown"),
    Row("GET", f"{_C}/{{command_id}}/targets", code="command_unknown"),
    *(
        Row(
            "POST",
            _C,
            body=_command(**targets),
            refused=403,
            code="devices_outside",
            done=202,
            shows=False,
        )
        for targets in (
            {"device_ids": lambda of: [of.device_id]},
            {"channel_ids": lambda of: [of.channel_id]},
        )
    ),
    Row("POST", _C, body=_command(all=True), refused=202, done=202, shows=False),
    Row("GET", f"{_C}/budgets", refused=200, shows=False),
    Row("GET", f"{_C}/guard", refused=200, shows=False),
    # It has no canary: who reaches it is told so.
    _act(f"{_C}/{{command_id}}/continue", code="command_unknown", done=404),
    _act(f"{_C}/{{command_id}}/cancel", _WHY, code="command_unknown"),
    _listed(f"{_C}/approvals"),
    Row("GET", f"{_C}/{{command_id}}/approval", code="held_command_unknown", held=True),
    # It names no device, and asks nothing of one.
    _act(f"{_C}/checks", {"kind": "device.restart"}, refused=200, done=200),
    # Nobody here has a key: who reaches it is told so.
    _act(f"{_C}/{{command_id}}/approval", _word, code="held_command_unknown", done=403, held=True),
    _act(f"{_C}/{{command_id}}/reject", _WHY, code="held_command_unknown", held=True),
    _listed(f"{_V}/devices"),
    _listed(f"{_V}/devices", "?q=serial"),
    _listed(f"{_V}/devices.csv"),
    Row("GET", f"{_V}/devices/{{device_id}}"),
    Row("GET", f"{_V}/devices/{{device_id}}/verdicts", shows=False),
    Row("GET", f"{_V}/devices/{{device_id}}/activity"),
    _listed(f"{_V}/overview"),
    _listed(f"{_V}/activity"),
    # A view names no device, and is an account's: nobody here has one.
    Row("GET", f"{_V}/views", refused=200, shows=False),
    _act(f"{_V}/views", {"name": "Macs"}, refused=403, code="not_a_person", done=403),
    Row("DELETE", f"{_V}/views/{{view_id}}", code="view_unknown", done=404, shows=False),
    _listed("/api/v1/compliance/devices"),
    _listed("/api/v1/compliance/verdicts"),
    Row("GET", "/api/v1/compliance/devices/{device_id}/verdicts"),
    Row("GET", "/api/v1/push/devices/{device_id}"),
    _act("/api/v1/push/devices/{device_id}/wake", done=202),
)


def _routes(*, scoped: bool) -> Iterator[tuple[str, Route]]:
    for service in services.load_all():
        for route in service.routes:
            # Pages take no tokens: the console's tests ask them as people who are signed in.
            guarded = route.listener == "api" and not route.public and not route.page
            if guarded and route.scoped == scoped:
                yield service.name, route


def test_every_scoped_route_is_in_the_walk() -> None:
    scoped = {(route.method, route.path) for _, route in _routes(scoped=True)}
    missing = scoped - {row.key for row in WALK}
    assert not missing, "say in WALK how these are asked of a device that is out of reach"
    assert {row.key for row in WALK} <= scoped, "these are gone, or know no scopes any more"


async def _with_group(scene: Scene, method: str, url: str, body: Any) -> Answer:
    """Somebody with every permission, on the group of the device inside."""
    groups = {scene.inside.group_id: ("*",)}
    return await scene.service.call(method, url, body, permissions=(), groups=groups, via=_VIA)


async def _traces(scene: Scene) -> list[str]:
    """Every row of the service's own tables that names the device outside."""
    found = []
    async with scene.service.context.pool.acquire() as connection:
        tables = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
            "AND relnamespace = current_schema()::regnamespace ORDER BY relname"
        )
        for table in (row["relname"] for row in tables):
            rows = await connection.fetch(
                f'SELECT t::text AS row FROM "{table}" AS t '
                "WHERE EXISTS (SELECT FROM unnest($1::text[]) AS m WHERE strpos(t::text, m) > 0)",
                list(scene.outside.marks),
            )
            found += sorted(f"{table}: {row['row']}" for row in rows)
    return found


def _named(answer: Answer, thing: Thing) -> list[str]:
    return [mark for mark in thing.marks if mark in answer.text]


async def _walk(scene: Scene, row: Row) -> None:
    inside, outside = scene.inside, scene.outside

    def body(of: Thing) -> Any:
        return None if row.body is None else row.body(of)

    before = await _traces(scene)
    assert before, "the device outside is known"
    refused = await _with_group(scene, row.method, row.url(outside), body(outside))
    assert refused.status == row.refused, refused.text
    assert _named(refused, outside) == []
    if refused.status >= 400:
        assert refused.json["code"] == row.code
    assert await _traces(scene) == before, "nothing of the device outside was touched"
    anybody = await scene.service.call(row.method, row.url(outside), body(outside), via=_VIA)
    assert anybody.status == row.done, anybody.text
    assert bool(_named(anybody, outside)) >= row.shows, "the row asks for something else"
    within = await _with_group(scene, row.method, row.url(inside), body(inside))
    assert within.status == row.done, within.text
    assert bool(_named(within, inside)) >= row.shows
    assert _named(within, outside) == []


@pytest.mark.parametrize("name", sorted(SCENES))
async def test_what_is_outside_is_neither_shown_nor_touched(
    make_database: MakeDatabase, tmp_path: Path, name: str
) -> None:
    own = {(route.method, route.path) for of, route in _routes(scoped=True) if of == name}
    async with SCENES[name](make_database, tmp_path) as scene:
        for row in WALK:
            if row.key in own:
                try:
                    await _walk(scene, row)
                except AssertionError as error:
                    error.add_note(f"{row.method} {row.path}{row.query}")
                    raise


@pytest.mark.parametrize("name", sorted(SCENES))
async def test_what_is_not_about_devices_refuses_people_with_a_group(
    make_database: MakeDatabase, tmp_path: Path, name: str
) -> None:
    async with SCENES[name](make_database, tmp_path) as scene:
        for of, route in _routes(scoped=False):
            if of == name:
                url = re.sub(r"\{\w+\}", str(scene.outside.device_id), route.path)
                answer = await _with_group(scene, route.method, url, {})
                assert answer.status == 403, f"{route.method} {route.path}"
                assert answer.json["code"] == "permission_on_all_missing"


def test_every_service_with_routes_for_people_has_a_scene() -> None:
    served = {of for scoped in (True, False) for of, _ in _routes(scoped=scoped)}
    assert served == set(SCENES)


async def _held(scene: Scene) -> Any:
    """The groups of the device outside, as the service keeps them."""
    table = "device_scope" if scene.service.running.name == "command_queue" else "device"
    query = f"SELECT groups FROM {table} WHERE device_id = $1"
    async with scene.service.context.pool.acquire() as connection:
        return await connection.fetchval(query, scene.outside.device_id)


@pytest.mark.parametrize("name", sorted(SCENES.keys() - {"inventory"}))
async def test_an_older_word_on_groups_changes_nothing(
    make_database: MakeDatabase, tmp_path: Path, name: str
) -> None:
    async with SCENES[name](make_database, tmp_path) as scene:
        device, mine = scene.outside.device_id, scene.inside.group_id
        newest = DeviceGroups(device_id=device, groups=[mine])
        await scene.service.hears(newest, service="inventory", sequence=2_000_000)
        assert await _held(scene) == [mine]
        older = DeviceGroups(device_id=device, groups=[])
        await scene.service.hears(older, service="inventory", sequence=1_999_999)
        assert await _held(scene) == [mine]
        await scene.service.hears(older, service="inventory", sequence=2_000_001)
        assert await _held(scene) == []
