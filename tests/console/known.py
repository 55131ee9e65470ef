"""What the console itself knows while its screens are judged and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.console.http.keys import SESSIONS
from services.console.sessions import Visit, hashed
from services.console.setup import offer
from services.console.store import accounts, factors, identities, people
from services.console.store.factors import Passkey
from shared.db.pool import Connection, transaction
from shared.events import uuid7
from shared.events.commands import CommandFinished, TargetState
from shared.events.compliance import VerdictState
from shared.events.devices import DeviceEnrolled, Ownership
from tests.console.auditing import did, hear, told
from tests.console.browsing import Browser, signed_in
from tests.console.fleet import START, Console
from tests.console.pictured import COMMAND_ID, GROUP_ID, KINDS, PEOPLE, POLICY_ID, SECRET_ID
from tests.console.screens import Eyes

_ISSUER = "https://login.example"
ADD_PROVIDER = """
INSERT INTO identity_provider (provider_id, name, issuer, client_id, client_secret, made_at,
                               changed_at, enabled)
VALUES ($1, 'Company', $2, 'muster', 'x', $3, $3, true)
"""
ADD_WEBHOOK = """
INSERT INTO webhook (webhook_id, name, url, secret, event_types, made_at, made_by)
VALUES ($1, 'SIEM', 'https://siem.example/hook', 'x', '{muster.device.unenrolled.v1}', $2, $3)
"""
ADD_DELIVERY = """
INSERT INTO delivery (delivery_id, webhook_id, event_id, event_type, subject, body, state,
                      attempts, made_at, next_at, last_at, last_result)
VALUES ($1, $2, gen_random_uuid(), 'muster.device.unenrolled.v1', $3, '', $4, $5, $6, $6, $6, $7)
"""
ADD_APP = "INSERT INTO totp (account_id, secret, since) VALUES ($1, 'x', $2)"
_STATES = (VerdictState.COMPLIANT, VerdictState.COMPLIANT, VerdictState.NONCOMPLIANT)


async def sessions(view: Console) -> tuple[dict[Eyes, str | None], Browser]:
    """The session of each who looks, and the browser of the owner."""
    owner = await signed_in(view.service, role="owner", email="ada@example.org")
    newcomer = await signed_in(view.service, name="Charles Babbage", email="charles@example.org")
    assert owner.account_id is not None
    async with transaction(view.service.context.pool) as tx:
        await _prove(tx, owner.account_id)
        first = await _halfway(view, tx, "Mary Jackson", proven=False)
        halfway = await _halfway(view, tx, "Katherine Johnson", proven=True)
    return {
        Eyes.OWNER: owner.cookies["muster"],
        Eyes.NEWCOMER: newcomer.cookies["muster"],
        Eyes.FIRST: first,
        Eyes.HALFWAY: halfway,
        Eyes.STRANGER: None,
    }, owner


async def _prove(tx: Connection, account_id: UUID) -> None:
    """A key and an app."""
    at = START - timedelta(days=20)
    await factors.add_key(
        tx, account_id, Passkey(uuid7(), account_id.bytes, b"x", 0, "Blue key", at, None)
    )
    await tx.execute(ADD_APP, account_id, at)


async def _halfway(view: Console, tx: Connection, name: str, *, proven: bool) -> str:
    """Somebody who has brought a password; `proven`: and has a second factor."""
    account_id, email = uuid7(), f"{name.partition(' ')[0].lower()}@example.org"
    await accounts.add(tx, account_id, name, email, START - timedelta(days=3))
    if proven:
        await _prove(tx, account_id)
    visit = Visit("203.0.113.7", "Test browser")
    begin = view.service.parts.values[SESSIONS].begin
    secret: str = await begin(tx, account_id, "password", visit, proven=False)
    return secret


async def names(
    view: Console, browser: Browser, devices: list[UUID], entry: UUID
) -> Mapping[str, str]:
    """What stands in the paths of screens for their names."""
    provider, webhook, owner = uuid7(), uuid7(), browser.account_id
    assert owner is not None
    async with transaction(view.service.context.pool) as tx:
        await tx.execute(ADD_PROVIDER, provider, _ISSUER, START - timedelta(days=30))
        await identities.link(
            tx, _ISSUER, "00u1ada", owner, START - timedelta(days=9), f"account:{owner}"
        )
        await tx.execute(ADD_WEBHOOK, webhook, START - timedelta(days=5), f"account:{owner}")
        for number, (state, said) in enumerate(
            (("delivered", "204"), ("waiting", "503"), ("dead", "no answer"))
        ):
            at = START - timedelta(hours=number)
            about = (uuid7(at), webhook, str(devices[number]), state, number + 1, at, said)
            await tx.execute(ADD_DELIVERY, *about)
        set_up = await offer(tx, view.clock)
        invited, link = uuid7(), "for-dorothy"
        await accounts.add(tx, invited, "Dorothy Vaughan", "dorothy@example.org", START)
        made = (invited, START, f"account:{owner}", START + timedelta(hours=24))
        await people.link(tx, hashed(link), *made)
    return {
        "command": str(COMMAND_ID),
        "device": str(devices[3]),
        "entry": str(entry),
        "group": str(GROUP_ID),
        "link": link,
        "mac": str(devices[5]),
        "other": str(devices[6]),
        "owner": str(owner),
        "policy": str(POLICY_ID),
        "provider": str(provider),
        "secret": str(SECRET_ID),
        "set_up": str(set_up),
        "webhook": str(webhook),
    }


async def fleet(view: Console) -> list[UUID]:
    """Thirty devices of ten people, judged and seen, some in a group."""
    policy, devices = uuid7(), []
    for number in range(30):
        who = PEOPLE[number % len(PEOPLE)]
        platform, noun, model, product, version = KINDS[number % len(KINDS)]
        enrolled = START - timedelta(days=(number * number) % 29, hours=1)
        device_id = await view.device(
            enrolled_at=enrolled,
            name=f"{who}'s {noun}",
            serial=f"C39XK{number:05}",
            udid=f"00008110-{number:016X}",
            user=f"{who.lower()}@example.org",
            model=model,
            product=product,
            platform=platform,
            os_version=version,
            ownership=Ownership.PERSONAL if number % 7 == 6 else Ownership.CORPORATE,
            supervised=number % 7 != 6,
            tags=["field"] if number % 4 == 0 else [],
        )
        joined = DeviceEnrolled(
            device_id=device_id,
            enrollment_id=uuid7(),
            generation=1,
            channel_id=uuid7(),
            platform=platform,
            ownership=Ownership.CORPORATE,
            enrolled_at=enrolled,
        )
        await view.service.hears(joined, service="enrollment", at=enrolled)
        await view.seen(device_id, timedelta(minutes=7 * number))
        await view.verdict(device_id, policy, _STATES[number % len(_STATES)])
        devices.append(device_id)
    await view.group("Field service", *devices[:4])
    for number, device_id in enumerate(devices):
        at = START - timedelta(days=number % 11, hours=2)
        finished = CommandFinished(
            device_id=device_id,
            command_id=uuid7(),
            kind="device.lock",
            state=TargetState.FAILED if number % 9 == 8 else TargetState.ACKNOWLEDGED,
            queued_at=at,
            finished_at=at,
        )
        await view.service.hears(finished, service="command_queue", at=at)
    return devices


async def acts(view: Console, devices: list[UUID], actor: str) -> UUID:
    """What is on record; returns the entry with the most to see."""
    who: dict[str, Any] = {"actor": actor, "source": "203.0.113.7"}
    values: dict[str, Any] = {"ownership": "corporate", "tags": ["field"], "user": None}
    changed = values | {"ownership": "personal", "tags": ["field", "on loan"]}
    asked = {"kind": "device.lock", "targets": 1, "device": str(devices[3])}
    entries = [
        did("command.create", target=str(COMMAND_ID), after=asked, reason="lost", **who),
        did("device.change", target=str(devices[3]), before=values, after=changed, **who),
        did("guard.freeze", target=str(uuid7()), reason="a laptop was stolen", **who),
        did("account.disable", target=actor, actor="service:console"),
        did("role.grant", target=actor, after={"role": "operator"}, **who),
    ]
    arrived = told(*entries)
    await hear(view.service, arrived)
    await view.service.run_job("sign_audit_root")
    await view.service.run_job("check_audit")
    return arrived[1].meta.event_id
