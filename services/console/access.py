"""What the console tells of accounts: on `muster.access.v1`, whole, after each change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.console.people import via_session
from services.console.permissions import held_by
from services.console.store import identities, sessions, tokens
from services.console.store import people as store
from services.console.store.people import Grant
from shared.bus import outbox
from shared.db.pool import Connection
from shared.events.access import AccountState, ApproverKey, HeldRole, LinkedIdentity, ViaRevoked

SET_UP = "set-up"
"""Who gave the first owner their role."""


async def tell(tx: Connection, account_id: UUID) -> None:
    """The account as it is in this transaction, which holds its row."""
    account = await store.one(tx, account_id)
    if account is None:
        return
    grants = await store.grants(tx, [account_id])
    keys = await store.keys(tx, account_id)
    state = AccountState(
        account_id=account_id,
        name=account.name,
        disabled=account.disabled_at is not None,
        created_at=account.created_at,
        reset_at=account.reset_at,
        sealed=account.sealed,
        set_up=any(grant.granted_by == SET_UP for grant in grants),
        roles=[
            HeldRole(
                role_id=grant.role_id,
                permissions=sorted(permissions_of(grant)),
                group_id=grant.group_id,
                since=grant.granted_at,
            )
            for grant in grants
        ],
        keys=[
            ApproverKey(
                passkey_id=key.passkey_id,
                credential_id=key.credential_id,
                public_key=key.public_key,
                since=key.registered_at,
            )
            for key in keys
        ],
        identities=[
            LinkedIdentity(provider_id=each.provider_id, since=each.linked_at)
            for each in await identities.of(tx, account_id)
        ],
    )
    await outbox.emit(tx, [state])


async def revoke(tx: Connection, vias: Sequence[str], now: datetime) -> None:
    """Access tokens made from these count no more, anywhere."""
    await outbox.emit(tx, [ViaRevoked(via=via, revoked_at=now) for via in vias])


async def end_everything(tx: Connection, account_id: UUID, now: datetime) -> None:
    """All ways in that are open: sessions and API tokens."""
    await end_sessions(tx, account_id, now)
    ended = await tokens.revoke_all(tx, account_id, now)
    await revoke(tx, [f"token:{token_id}" for token_id in ended], now)


async def end_sessions(tx: Connection, account_id: UUID, now: datetime) -> None:
    """All of an account's, and the access tokens made from them."""
    ended = await sessions.end_all(tx, account_id)
    await revoke(tx, [via_session(session_id) for session_id in ended], now)


async def end_other_sessions(
    tx: Connection, account_id: UUID, session_id: UUID, now: datetime
) -> None:
    """All of an account's but this one, and the access tokens made from them."""
    ended = await sessions.end_others(tx, account_id, session_id)
    await revoke(tx, [via_session(each) for each in ended], now)


def permissions_of(grant: Grant) -> frozenset[str]:
    custom = frozenset(grant.permissions)
    return held_by(grant.role_id, built_in=grant.built_in, custom=custom)
