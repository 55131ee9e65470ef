"""Bytes in events survive the broker: keys of approvers are compared by what they are."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from shared.bus import envelope
from shared.events import Meta, uuid7
from shared.events.access import AccountState, ApproverKey


def test_bytes_come_back_as_they_were() -> None:
    now = datetime.now(UTC)
    every = bytes(range(256))
    key = ApproverKey(passkey_id=uuid4(), credential_id=every, public_key=b"\xff\xfe", since=now)
    sent = AccountState(
        account_id=uuid4(),
        name="Ada",
        disabled=False,
        created_at=now,
        reset_at=None,
        roles=[],
        keys=[key],
    )
    meta = Meta(event_id=uuid7(now), sequence=1, time=now, source="/muster/console")
    headers = envelope.encode(sent.TYPE, sent.subject, meta)
    got = envelope.decode(headers, sent.model_dump_json().encode())
    assert isinstance(got, AccountState)
    assert got.keys == [key]
