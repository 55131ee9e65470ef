"""The bytes that are hashed, spelled out: a second verifier begins here (decision 54)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from services.console.audit.canonical import (
    NOTHING,
    Content,
    Head,
    Link,
    Root,
    heads_hash,
    instant,
)

CONTENT = Content(
    salt="000102030405060708090a0b0c0d0e0f",
    audit_id="0190a000-0000-7000-8000-000000000001",
    actor="account:0190a000-0000-7000-8000-000000000002",
    target='därför "x"\n\u0001',
    before=None,
    after='{"name":"ö","n":1.0}',
    reason=None,
    source="203.0.113.7",
    via="token:7",
    correlation_id="abc",
)
SPELLED = (
    '["muster.audit.content.v1","000102030405060708090a0b0c0d0e0f",'
    '"0190a000-0000-7000-8000-000000000001","account:0190a000-0000-7000-8000-000000000002",'
    r'"därför \"x\"\n\u0001",null,"{\"name\":\"ö\",\"n\":1.0}",null,"203.0.113.7","token:7","abc"]'
)
LINK = Link(
    topic="muster.audit.inventory.v1",
    partition=2,
    position=1,
    offset=41,
    previous=NOTHING,
    recorded_at=instant(datetime(2026, 3, 1, 9, 5, tzinfo=UTC)),
    event_id="0190a000-0000-7000-8000-000000000003",
    occurred_at=instant(datetime(2026, 3, 1, 9, 4, 59, 120, tzinfo=UTC)),
    action="group.create",
    permission="group.write",
    content=CONTENT.hash,
)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_content() -> None:
    assert CONTENT.hash == _sha256(SPELLED)


def test_link() -> None:
    spelled = (
        f'["muster.audit.link.v1","muster.audit.inventory.v1",2,1,41,"{"0" * 64}",'
        '"2026-03-01T09:05:00.000000Z","0190a000-0000-7000-8000-000000000003",'
        f'"2026-03-01T09:04:59.000120Z","group.create","group.write","{CONTENT.hash}"]'
    )
    assert LINK.hash == _sha256(spelled)


def test_heads_are_in_the_order_of_topic_and_partition() -> None:
    one, two = Head("b", 0, 1, 7, "ff"), Head("a", 10, 3, 9, "ee")
    spelled = '["muster.audit.heads.v1","a",10,3,9,"ee","b",0,1,7,"ff"]'
    assert heads_hash([one, two]) == heads_hash([two, one]) == _sha256(spelled)
    assert heads_hash([]) == _sha256('["muster.audit.heads.v1"]')


def test_root() -> None:
    root = Root(2, "2026-03-01T09:06:00.000000Z", "aa", "bb", 2, 16, "cc")
    spelled = '["muster.audit.root.v1",2,"2026-03-01T09:06:00.000000Z","aa","bb",2,16,"cc"]'
    assert root.statement == spelled.encode()
    assert root.hash == _sha256(spelled)
