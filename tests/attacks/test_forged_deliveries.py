"""What a receiver of webhooks can tell apart: ours, and what was changed, aged or sent anew."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import pytest

from shared.runtime.testing import Trial
from tests.console.browsing import later, signed_in
from tests.console.conftest import proven
from tests.console.test_webhooks import NOW, _happens, _made, _told, receivers, service

__all__ = ["proven", "receivers", "service"]
pytestmark = pytest.mark.usefixtures("proven")
FRESH: Final = timedelta(minutes=5)


def counts(key: bytes, headers: Mapping[str, str], body: bytes, age: timedelta) -> bool:
    """As a receiver judges (Standard Webhooks), `age` after it was sent."""
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    made = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    given = headers["webhook-signature"].removeprefix("v1,")
    return hmac.compare_digest(made, given) and age <= FRESH


async def _delivered(service: Trial, receivers: Any) -> tuple[bytes, dict[str, str], bytes]:
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    _, key = await _made(owner, receiver.url)
    await _happens(service)
    await _told(service)
    [(headers, body)] = receiver.heard
    return key, {name.lower(): value for name, value in headers.items()}, body


async def test_a_delivery_counts_as_it_was_sent_and_for_five_minutes(
    service: Trial, receivers: Any
) -> None:
    key, headers, body = await _delivered(service, receivers)
    assert int(headers["webhook-timestamp"]) == int(NOW.timestamp())
    assert counts(key, headers, body, timedelta())
    assert not counts(key, headers, body, FRESH + timedelta(seconds=1))
    stamp = str(int((NOW + timedelta(days=1)).timestamp()))
    for changed in (
        headers | {"webhook-timestamp": stamp},
        headers | {"webhook-id": "another"},
        headers | {"webhook-signature": "v1,"},
        headers | {"webhook-signature": headers["webhook-signature"][:-4]},
    ):
        assert not counts(key, changed, body, timedelta())
    assert not counts(key, headers, body + b" ", timedelta())
    assert not counts(key, headers, body.replace(b"check_out", b"admin"), timedelta())


async def test_a_receiver_cannot_speak_to_another(service: Trial, receivers: Any) -> None:
    """Each has a key of its own: what one was told proves nothing at the next."""
    key, headers, body = await _delivered(service, receivers)
    owner, other = await signed_in(service, role="owner", name="Bea"), await receivers()
    _, theirs = await _made(owner, other.url, name="Other")
    assert theirs != key
    assert not counts(theirs, headers, body, timedelta())


async def test_each_attempt_is_stamped_anew_under_one_id(service: Trial, receivers: Any) -> None:
    """A delivery that waited for two days is fresh when it comes, and is known by its id."""
    owner, receiver = await signed_in(service, role="owner"), await receivers()
    _, key = await _made(owner, receiver.url)
    taking = receiver.behave

    async def breaks(_request: Any) -> Any:
        raise ConnectionResetError

    receiver.behave = breaks
    await _happens(service)
    await _told(service)
    receiver.behave = taking
    later(service, timedelta(days=1))
    await _told(service)
    first, again = [({n.lower(): v for n, v in h.items()}, body) for h, body in receiver.heard]
    assert first[0]["webhook-id"] == again[0]["webhook-id"]
    assert first[0]["webhook-timestamp"] != again[0]["webhook-timestamp"]
    assert counts(key, *again, timedelta())
