"""What pages that change something leave in the audit, and an eye on every test of the console.

Whatever a test does with success by such a page must leave the entry that is named here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import pytest
from aiohttp import web

from shared.bus import outbox
from shared.db.pool import Connection
from shared.events import Event
from shared.events.audit import AuditRecorded
from shared.runtime.endpoints import Endpoint

Key = tuple[str, str]
_PEOPLE, _ONE = "/settings/people", "/settings/people/{account_id}"
_HOOK, _IDP = "/settings/webhooks/{webhook_id}", "/settings/identity"
LOCAL: Final[Mapping[Key, frozenset[str]]] = {
    ("POST", path): frozenset(actions.split())
    for path, actions in {
        "/me/sessions/{session_id}/end": "session.end",
        "/sign-out": "session.end",
        "/me/factors/keys": "factor.register",
        "/me/factors/keys/{key_id}/remove": "factor.remove",
        "/me/factors/code": "factor.register",
        "/me/factors/code/remove": "factor.remove",
        "/me/identities/unlink": "identity.unlink",
        "/me/password": "password.change",
        _IDP: "identity_provider.create",
        f"{_IDP}/{{provider_id}}/secret": "identity_provider.client",
        f"{_IDP}/{{provider_id}}/use": "identity_provider.use",
        f"{_ONE}/identities/{{provider_id}}/link": "identity.link",
        f"{_ONE}/identities/{{provider_id}}/unlink": "identity.unlink",
        f"{_PEOPLE}/sealed": "account.create",
        "/sealed": "session.begin account.join",
        _PEOPLE: "account.create",
        f"{_ONE}/reset": "account.reset",
        f"{_ONE}/disable": "account.disable",
        f"{_ONE}/enable": "account.enable",
        f"{_ONE}/grants": "role.grant",
        f"{_ONE}/grants/{{grant_id}}/take": "role.take",
        "/settings/roles": "role.create",
        "/join/{token}": "account.join",
        "/second-factor/code": "session.begin",
        "/second-factor/confirm": "session.begin",
        "/second-factor/key": "session.begin",
        "/second-factor/new-key": "session.begin",
        "/set-up/{token}": "console.setup",
        "/step-up/code": "session.step_up",
        "/step-up/key": "session.step_up",
        "/me/tokens": "token.create",
        "/views": "view.save",
        "/views/{view_id}/delete": "view.delete",
        "/me/tokens/{token_id}/revoke": "token.revoke",
        "/settings/webhooks": "webhook.create",
        f"{_HOOK}/use": "webhook.use",
        f"{_HOOK}/again": "webhook.redeliver",
    }.items()
}
"""Page → entries of which it leaves one."""
MAY_CHANGE_NOTHING: Final = frozenset({("POST", "/me/sessions/{session_id}/end")})
"""A session of somebody else, or one that is over, is answered like one that was ended just now."""
_COMMANDS, _INVENTORY = "/api/v1/commands", "/api/v1/inventory/devices/{device_id}"
_ENROLLMENT, _PUSH = "/api/v1/enrollment", "/api/v1/push"
_GROUPS: Final = "/api/v1/inventory/groups"
_POLICIES: Final = "/api/v1/compliance/policies"
FORWARDED: Final[Mapping[Key, Key]] = {
    ("POST", page): (method, path)
    for page, (method, path) in {
        "/devices/{device_id}/actions/{name}": ("POST", _COMMANDS),
        "/devices/{device_id}/refresh": ("POST", f"{_INVENTORY}/refresh"),
        "/devices/{device_id}/wake": ("POST", f"{_PUSH}/devices/{{device_id}}/wake"),
        "/devices/{device_id}/secrets/{secret_id}/reveal": (
            "POST",
            f"{_COMMANDS}/devices/{{device_id}}/secrets/{{secret_id}}/reveal",
        ),
        "/bulk/{name}": ("POST", _COMMANDS),
        "/policies": ("POST", _POLICIES),
        "/policies/{policy_id}": ("PUT", f"{_POLICIES}/{{policy_id}}"),
        "/policies/{policy_id}/delete": ("DELETE", f"{_POLICIES}/{{policy_id}}"),
        "/groups": ("POST", _GROUPS),
        "/groups/place": ("POST", f"{_GROUPS}/{{group_id}}/members"),
        "/groups/{group_id}": ("PATCH", f"{_GROUPS}/{{group_id}}"),
        "/groups/{group_id}/delete": ("DELETE", f"{_GROUPS}/{{group_id}}"),
        "/groups/{group_id}/members/remove": ("POST", f"{_GROUPS}/{{group_id}}/members/remove"),
        "/approvals/freeze": ("POST", f"{_COMMANDS}/freeze"),
        "/approvals/cancel-all": ("POST", f"{_COMMANDS}/cancel-all"),
        "/approvals/powers/{account_id}/veto": ("POST", f"{_COMMANDS}/powers/{{account_id}}/veto"),
        "/approvals/freezes/{freeze_id}/key": ("POST", f"{_COMMANDS}/freeze/{{freeze_id}}/lift"),
        "/approvals/{command_id}/key": ("POST", f"{_COMMANDS}/{{command_id}}/approval"),
        "/approvals/{command_id}/reject": ("POST", f"{_COMMANDS}/{{command_id}}/reject"),
        "/enrollment/credentials": ("POST", f"{_ENROLLMENT}/credentials"),
        "/enrollment/credentials/{credential_id}/revoke": (
            "DELETE",
            f"{_ENROLLMENT}/credentials/{{id}}",
        ),
        **{
            f"/enrollment/lobby/{{enrollment_id}}/{word}": (
                "POST",
                f"{_ENROLLMENT}/lobby/{{enrollment_id}}/{word}",
            )
            for word in ("release", "refuse")
        },
        "/enrollment/push/request": ("POST", f"{_PUSH}/certificate-request"),
        "/enrollment/push/certificate": ("PUT", f"{_PUSH}/certificate"),
        "/enrollment/push/certificates/{fingerprint}/use": (
            "POST",
            f"{_PUSH}/certificates/{{fingerprint}}/use",
        ),
        "/commands/{command_id}/cancel": ("POST", f"{_COMMANDS}/{{command_id}}/cancel"),
        "/commands/{command_id}/continue": ("POST", f"{_COMMANDS}/{{command_id}}/continue"),
    }.items()
}
"""Page → what it asks another service in the person's name: that one writes the entry."""
_OFFER: Final = "it only makes a question or a secret on offer: nothing counts before the answer"
_LEAVES: Final = "it only sends the browser to the identity provider: the entry is of its return"
WHY_NOT: Final[Mapping[Key, str]] = {
    ("POST", path): why
    for why, paths in {
        _OFFER: (
            "/me/factors/keys/add",
            "/me/factors/code/offer",
            "/me/password/begin",
            "/settings/identity/{provider_id}/client",
            "/sealed/options",
            "/second-factor/offer",
            "/second-factor/key/options",
            "/second-factor/new-key/options",
            "/step-up/key/options",
        ),
        _LEAVES: (
            "/me/identities/{provider_id}/link",
            "/sign-in/with/{provider_id}",
            "/join/{token}/with/{provider_id}",
        ),
        "it judges a draft and keeps nothing": (
            "/policies/preview",
            "/policies/{policy_id}/preview",
        ),
        "the password alone lets nobody in: the entry is of the second factor, or of the refusal": (
            "/sign-in",
        ),
        "many ends, each with entries of its own: test_signing_in_by_provider.py has them": (
            "/sign-in/callback/{provider_id}",
        ),
    }.items()
    for path in paths
}
"""Pages that leave no entry, and why."""
_emitted: ContextVar[list[AuditRecorded] | None] = ContextVar("emitted", default=None)


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For the length of a block no page of the console changes something and says nothing."""
    silent: list[str] = []
    emit, call = outbox.emit, Endpoint.__call__

    async def emitting(tx: Connection, events: Iterable[Event]) -> None:
        told = list(events)
        seen = _emitted.get()
        if seen is not None:
            seen += [event for event in told if isinstance(event, AuditRecorded)]
        await emit(tx, told)

    async def calling(endpoint: Endpoint, request: web.Request) -> web.StreamResponse:
        key = request.method, endpoint._route.path
        seen: list[AuditRecorded] = []
        token = _emitted.set(seen)
        try:
            response = await call(endpoint, request)
        finally:
            _emitted.reset(token)
        done = response.status < 400 and endpoint._route.page
        checked = done and key in LOCAL and key not in MAY_CHANGE_NOTHING
        if checked and not {entry.action for entry in seen} & LOCAL[key]:
            silent.append(f"{' '.join(key)} left {[entry.action for entry in seen]}")
        return response

    monkeypatch.setattr(outbox, "emit", emitting)
    monkeypatch.setattr(Endpoint, "__call__", calling)
    yield
    assert silent == []


def unknown_pages(pages: Iterable[Key]) -> list[Key]:
    """Pages that change something of which nobody says what they leave."""
    return sorted(set(pages) - LOCAL.keys() - FORWARDED.keys() - WHY_NOT.keys())
