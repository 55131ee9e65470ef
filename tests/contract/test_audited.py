"""Every route of the API that changes something, asked once with success: each leaves an entry of
the audit with actor, permission, target, source, correlation, and what changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.bus import outbox
from shared.events.audit import AuditRecorded
from shared.runtime.clock import FixedClock
from shared.runtime.routes import Route
from shared.runtime.testing import Answer, RecordedCalls, Trial
from tests.command_queue.approving import Person, aged
from tests.command_queue.fleet import Fleet
from tests.console import on_record
from tests.console.browsing import signed_in
from tests.contract.scenes import SCENES, Scene, Thing
from tests.enrollment.conftest import Apple, House, _make_keys
from tests.enrollment.test_quarantine import impostor_of
from tools.cli import services
from tools.embedded.testing import MakeDatabase

Key = tuple[str, str]
WHY_NOT: Final[Mapping[Key, str]] = {
    ("POST", "/api/v1/console/token"): "a token for five minutes, by one whose making is on record",
    ("POST", "/api/v1/compliance/previews"): "it judges a draft and keeps nothing",
    ("POST", "/api/v1/commands/checks"): "it judges a command and asks for nothing",
}
"""Routes that leave no entry, and why."""
ELSEWHERE: Final[Mapping[Key, str]] = {
    ("POST", "/api/v1/commands/{command_id}/continue"): "tests/command_queue/test_canaries.py",
    (
        "POST",
        "/api/v1/push/certificates/{fingerprint}/use",
    ): "tests/push_notifier/test_certificates.py",
}
"""Routes that take a fleet, or its push service, and the test that looks at their entry so."""
REASON: Final = {"reason": "walk"}


def writing(*, page: bool) -> dict[Key, tuple[str, Route]]:
    """Routes for people that are not asked by GET."""
    return {
        (route.method, route.path): (service.name, route)
        for service in services.load_all()
        for route in service.routes
        if route.listener == "api" and route.page == page and route.method != "GET"
    }


API: Final = writing(page=False)


class Walk:
    """Asks routes of one service and looks at what they leave in the audit."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.service = scene, scene.service
        self.walked: set[Key] = set()

    async def entries(self) -> list[AuditRecorded]:
        return await entries(self.service)

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        action: str,
        changes: bool = True,
        asked: Callable[[], Awaitable[Answer]] | None = None,
        actor: str = "tester",
        permission: str | None = None,
        **names: Any,
    ) -> Answer:
        """`changes`: the entry says what is different now; `asked`: what asks, if not a plain call
        as the tester; `permission`: if a narrower one than the route's was used.
        """
        before = {entry.audit_id for entry in await self.entries()}
        if asked is None:
            url = path.format(**names)
            answer = await self.service.call(method, url, body, via="session:walk")
        else:
            answer = await asked()
        assert answer.status < 300, f"{method} {path}: {answer.text}"
        new = [entry for entry in await self.entries() if entry.audit_id not in before]
        found = [entry for entry in new if entry.action == action]
        assert found, f"{method} {path} left {[entry.action for entry in new]}"
        _, route = API[method, path]
        for entry in found:
            check(entry, answer, actor, permission or route.permission)
            assert not changes or entry.before or entry.after, f"{action} does not say what changed"
        self.walked.add((method, path))
        return answer


async def entries(service: Trial) -> list[AuditRecorded]:
    async with service.context.pool.acquire() as connection:
        events = await outbox.read(connection, service.running.name)
    return [event for event in events if isinstance(event, AuditRecorded)]


def check(entry: AuditRecorded, answer: Answer, actor: str, permission: str | None) -> None:
    """What every entry must say."""
    said = f"{entry.action} of {entry.target}"
    assert entry.actor == actor, said
    assert permission is None or entry.permission == permission, said
    assert entry.target, said
    assert entry.source, f"{said}: from where?"
    assert (entry.via or "").startswith("session:"), f"{said}: by which session?"
    assert entry.meta.correlation_id == answer.headers["X-Correlation-Id"], said


async def _inventory(walk: Walk) -> None:
    base, device = "/api/v1/inventory", walk.scene.inside.device_id
    body: Any = {"reason": "walk"}
    path = f"{base}/devices/{{device_id}}/refresh"
    await walk("POST", path, body, action="inventory.refresh", device_id=device)
    body = {"name": "Walk", "reason": "walk"}
    made = await walk("POST", f"{base}/groups", body, action="group.create")
    group = made.json["group_id"]
    path = f"{base}/groups/{{group_id}}"
    await walk("PATCH", path, {"description": "x"}, action="group.change", group_id=group)
    members = {"device_ids": [device]}
    added, removed = "group.members.added", "group.members.removed"
    await walk("POST", f"{path}/members", members, action=added, group_id=group)
    await walk("POST", f"{path}/members/remove", members, action=removed, group_id=group)
    await walk("DELETE", path, action="group.delete", group_id=group)


async def _compliance(walk: Walk) -> None:
    base = "/api/v1/compliance/policies"
    policy = {"name": "Walk", "rules": [{"kind": "passcode_present"}]}
    made = await walk("POST", base, policy, action="compliance.policy.create")
    one, named = f"{base}/{{policy_id}}", {"policy_id": made.json["policy_id"]}
    changed = policy | {"name": "Walked"}
    await walk("PUT", one, changed, action="compliance.policy.change", **named)
    await walk("DELETE", one, action="compliance.policy.delete", **named)


async def _push_notifier(walk: Walk) -> None:
    base = "/api/v1/push"
    asked = await walk(
        "POST", f"{base}/certificate-request", action="push.certificate_requested", changes=False
    )
    certificate = _signed(asked.text)
    body = {"certificate": certificate}
    await walk("PUT", f"{base}/certificate", body, action="push.certificate_changed")
    device = walk.scene.inside.device_id
    path = f"{base}/devices/{{device_id}}/wake"
    await walk("POST", path, action="push.wake", changes=False, device_id=device)


def _signed(answer: str) -> str:
    """What Apple's portal makes of a request."""
    begin, end = "-----BEGIN CERTIFICATE REQUEST-----", "-----END CERTIFICATE REQUEST-----"
    pem = answer[answer.index(begin) : answer.index(end) + len(end)].replace("\\n", "\n")
    request = x509.load_pem_x509_csr(pem.encode())
    now = datetime.now(UTC)
    names = {NameOID.USER_ID: "com.apple.mgmt.walk", NameOID.COMMON_NAME: "APSP:walk"}
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in names.items()])
    builder = x509.CertificateBuilder(subject, subject, request.public_key(), 1)
    builder = builder.not_valid_before(now - timedelta(days=1))
    signed = builder.not_valid_after(now + timedelta(days=365)).sign(
        ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    )
    return signed.public_bytes(serialization.Encoding.PEM).decode()


async def _enrollment(walk: Walk) -> None:
    base, device = "/api/v1/enrollment", walk.scene.inside.device_id
    made = await walk("POST", f"{base}/credentials", {"name": "Walk"}, action="credential.create")
    named = {"id": made.json["credential_id"]}
    await walk("DELETE", f"{base}/credentials/{{id}}", action="credential.revoke", **named)
    serials = {"serials": ["WALK00001"]}
    await walk("POST", f"{base}/serials", serials, action="serials.list")
    await walk("POST", f"{base}/serials/remove", serials, action="serials.unlist")
    token = walk.service.token(via="session:walk")
    await walk(
        "POST",
        f"{base}/serials/import",
        action="serials.list",
        asked=lambda: walk.service.send(
            "api",
            "POST",
            f"{base}/serials/import",
            b"serial\nWALK00002\n",
            {"Authorization": f"Bearer {token}", "Content-Type": "text/csv"},
        ),
    )
    rows = {"rows": [{"udid": "walk"}]}
    await walk("POST", f"{base}/imports", rows, action="enrollment.import")
    one = f"{base}/devices/{{id}}"
    await walk("PATCH", one, {"tags": ["walk"]}, action="device.change", id=device)
    renewal = {"action": "device.renewal_profile", "changes": False}
    await walk("POST", f"{one}/renewal-profile", **renewal, id=device)  # type: ignore[arg-type]
    await walk("POST", f"{one}/revoke", REASON, action="device.revoke", id=device)
    context = walk.service.context
    clock, others = cast("FixedClock", context.clock), cast("RecordedCalls", context.internal)
    house = House(walk.service, clock, others, _make_keys())
    unused = (await house.identity(await house.credential())).certificate
    await walk(
        "POST",
        f"{base}/certificates/{{sha256}}/withdraw",
        REASON,
        action="certificate.withdraw",
        sha256=unused.fingerprint(hashes.SHA256()).hex(),
    )
    released, refused = "lobby.release", "lobby.refuse"
    known = await house.enrolled()
    await _waits(house, known)
    waits = await house.id_of(known)
    await walk("POST", f"{one}/release", REASON, action=released, id=waits)
    lobby = f"{base}/lobby/{{enrollment_id}}"
    for verb, action in (("release", released), ("refuse", refused)):
        its = await _waits(house, await house.enrolled())
        await walk("POST", f"{lobby}/{verb}", REASON, action=action, enrollment_id=its)


async def _waits(house: House, known: Apple) -> str:
    """The enrollment of somebody who claims to be this device."""
    impostor = await impostor_of(house, known)
    await house.check_in(impostor, impostor.authenticate())
    rows = await house.query(
        "SELECT enrollment_id FROM enrollment WHERE state = 'quarantined' "
        "ORDER BY enrollment_id DESC LIMIT 1"
    )
    return str(rows[0]["enrollment_id"])


async def _command_queue(walk: Walk) -> None:
    base, thing = "/api/v1/commands", walk.scene.inside
    fleet = Fleet(walk.service, cast("FixedClock", walk.service.context.clock))
    body = {
        "kind": "inventory.refresh",
        "params": {"section": "security"},
        "idempotency_key": "audited",
        "device_ids": [thing.device_id],
    }
    narrow = "command.inventory.refresh"
    made = await walk("POST", base, body, action="command.create", permission=narrow)
    cancel = f"{base}/{{command_id}}/cancel"
    command = made.json["command_id"]
    await walk("POST", cancel, REASON, action="command.cancel", command_id=command)
    reveal = f"{base}/devices/{{device_id}}/secrets/{{secret_id}}/reveal"
    secret, device = await _locked(walk.service, thing), thing.device_id
    shown = "secret.reveal"
    await walk("POST", reveal, REASON, action=shown, device_id=device, secret_id=secret)
    young = Person(fleet, fleet.clock.now())
    ada, bob = await aged(fleet, 2)
    await young.tell()
    veto = f"{base}/powers/{{account_id}}/veto"
    await walk("POST", veto, REASON, action="guard.veto", account_id=young.account_id)
    held = str(thing.held_id)
    await walk(
        "POST",
        f"{base}/{{command_id}}/approval",
        action="command.approve",
        actor=ada.actor,
        asked=lambda: ada.approve(held),
    )
    other = str(walk.scene.outside.held_id)
    await walk(
        "POST",
        f"{base}/{{command_id}}/reject",
        action="command.reject",
        actor=bob.actor,
        asked=lambda: bob.reject(other),
    )
    frozen = await walk("POST", f"{base}/freeze", REASON, action="guard.freeze")
    lift, freeze = f"{base}/freeze/{{freeze_id}}/lift", str(frozen.json["freeze_id"])
    for who, action in ((ada, "guard.unfreeze"), (bob, "guard.lifted")):
        asked = partial(who.lift, freeze)
        await walk("POST", lift, action=action, actor=who.actor, asked=asked)
    await walk("POST", f"{base}/cancel-all", REASON, action="command.cancel_all")


async def _locked(service: Trial, thing: Thing) -> str:
    """What is kept of a device that was locked by a PIN."""
    base = "/api/v1/commands"
    body = {
        "kind": "device.lock",
        "params": {"pin": "314159"},
        "idempotency_key": "locked",
        "device_ids": [thing.device_id],
    }
    assert (await service.call("POST", base, body)).status == 202
    [kept] = (await service.call("GET", f"{base}/devices/{thing.device_id}/secrets")).json["items"]
    return str(kept["secret_id"])


async def _console(walk: Walk) -> None:
    """Its API changes saved views alone: people change the rest on pages (below)."""
    path = "/api/v1/console/views"
    actor = f"account:{(await signed_in(walk.service)).account_id}"
    asks = partial(walk.service.call, actor=actor, via="session:walk")
    save = partial(asks, "POST", path, {"name": "Macs", "query": "platform=macos"})
    made = await walk("POST", path, action="view.save", actor=actor, asked=save)
    drop = partial(asks, "DELETE", f"{path}/{made.json['view_id']}")
    await walk("DELETE", f"{path}/{{view_id}}", action="view.delete", actor=actor, asked=drop)


WALKS: Final[Mapping[str, Callable[[Walk], Awaitable[None]]]] = {
    "inventory": _inventory,
    "compliance": _compliance,
    "push_notifier": _push_notifier,
    "enrollment": _enrollment,
    "command_queue": _command_queue,
    "console": _console,
}


@pytest.mark.parametrize("name", sorted(WALKS))
async def test_what_changes_something_is_on_record(
    make_database: MakeDatabase, tmp_path: Path, name: str
) -> None:
    async with SCENES[name](make_database, tmp_path) as scene:
        walk = Walk(scene)
        await WALKS[name](walk)
    wanted = {key for key, (service, _) in API.items() if service == name}
    wanted -= WHY_NOT.keys() | ELSEWHERE.keys()
    assert walk.walked == wanted


def test_every_service_that_changes_something_is_walked() -> None:
    assert {service for service, _ in API.values()} <= WALKS.keys()
    assert WHY_NOT.keys() | ELSEWHERE.keys() <= API.keys()


def test_every_page_that_changes_something_says_what_it_leaves() -> None:
    """The tests of the console hold each of them to it, whatever they are about."""
    pages = writing(page=True).keys()
    missing = on_record.unknown_pages(pages)
    assert not missing, "say in tests/console/on_record.py which entry of the audit these leave"
    known = {*on_record.LOCAL, *on_record.FORWARDED, *on_record.WHY_NOT}
    assert known <= pages, "these are gone"
    asked = set(on_record.FORWARDED.values())
    assert asked <= API.keys() - WHY_NOT.keys(), "what these ask is walked above"
