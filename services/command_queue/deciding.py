"""Taking a person's word: by a key of theirs, over a digest that this service worked out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from services.command_queue.approvers import Standing
from services.command_queue.assertions import AssertionRefused, Assertions, Credential, signed_parts
from services.command_queue.errors import ApprovalRefused
from services.command_queue.store import approvers as accounts
from services.command_queue.store.approvals import Approval
from shared.db.pool import Connection

LONGEST: Final = timedelta(hours=24)
"""How long an approval counts."""
_PARTS: Final = ("client_data", "authenticator_data", "signature")


def offered_until(now: datetime) -> datetime:
    """The end of an approval that is given now.

    Whole seconds: the digest must be the same when the answer brings the time back.
    """
    return (now + LONGEST).replace(microsecond=0)


def still(expires_at: datetime, now: datetime) -> datetime:
    """The end that an answer brings back; raises ApprovalRefused for one that was not offered."""
    if not now < expires_at <= now + LONGEST:
        raise ApprovalRefused("This was asked for too long ago: look at it again.")
    return expires_at.astimezone(UTC)


async def prove(
    tx: Connection,
    assertions: Assertions,
    standing: Standing,
    digest: bytes,
    answer: Credential,
    now: datetime,
    expires_at: datetime,
) -> Approval:
    """Somebody's word by the key that signed the digest; raises ApprovalRefused.

    An answer is good once.
    """
    if standing.why_not is not None:
        raise ApprovalRefused(standing.why_not)
    try:
        key, count = assertions.check(digest, standing.keys, answer)
    except AssertionRefused:
        raise ApprovalRefused("The key did not sign what is to be approved here.") from None
    if not await accounts.count(tx, key, count):
        raise ApprovalRefused("The key answered twice at once: try again.")
    return Approval(
        account_id=key.account_id,
        credential_id=key.credential_id,
        digest=digest,
        approved_at=now,
        expires_at=expires_at,
        **dict(zip(_PARTS, signed_parts(answer), strict=True)),
        name=None,
    )
