"""The port to APNs against the stand-in, over real TLS and HTTP/2."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from services.push_notifier.answers import UNREACHABLE
from services.push_notifier.apple.apns import Apns, client_context
from tools.embedded.apns import ApnsStandIn, Rule

TOKEN = "ab" * 32


@pytest.fixture
async def stand_in(tmp_path: Path) -> AsyncIterator[ApnsStandIn]:
    service = ApnsStandIn(tmp_path / "apns")
    await service.start()
    yield service
    await service.stop()


class Way:
    """A push certificate signed by the stand-in's portal, and the connection it opens."""

    def __init__(self, stand_in: ApnsStandIn, *, timeout: float = 60.0) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        csr = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([]))
            .sign(key, hashes.SHA256())
        )
        pem = stand_in.authority.push_certificate(csr.public_bytes(serialization.Encoding.PEM))
        certificate = x509.load_pem_x509_certificate(pem)
        topics = certificate.subject.get_attributes_for_oid(NameOID.USER_ID)
        self.topic = str(topics[0].value)
        key_pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        context = client_context(pem.decode(), key_pem, stand_in.trust)
        self.apns = Apns(
            context, host="127.0.0.1", port=stand_in.port, connections=1, timeout=timeout
        )

    async def wake(self, token: str = TOKEN) -> tuple[int, str]:
        answer = await self.apns.wake(
            self.topic, token, "the-magic", push_id=str(uuid4()), lifetime=3600
        )
        return answer.status, answer.reason


async def test_a_push_carries_what_apple_asks_for(stand_in: ApnsStandIn) -> None:
    way = Way(stand_in)
    assert await way.wake() == (200, "")
    way.apns.close()
    (push,) = stand_in.received
    assert push["token"] == TOKEN
    assert push["payload"] == {"mdm": "the-magic"}
    headers = push["headers"]
    assert headers["apns-push-type"] == "mdm"
    assert headers["apns-topic"] == way.topic
    assert headers["apns-priority"] == "10"
    assert int(headers["apns-expiration"]) > push["at"]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "BadDeviceToken"),
        (400, "BadTopic"),
        (403, "BadCertificate"),
        (410, "Unregistered"),
        (413, "PayloadTooLarge"),
        (429, "TooManyRequests"),
        (500, "InternalServerError"),
        (503, "ServiceUnavailable"),
    ],
)
async def test_every_answer_arrives(stand_in: ApnsStandIn, status: int, reason: str) -> None:
    stand_in.rules.append(Rule(status=status, reason=reason, timestamp=1_700_000_000_000))
    way = Way(stand_in)
    assert await way.wake() == (status, reason)
    way.apns.close()


async def test_an_error_body_never_closes_the_flow_control_window(stand_in: ApnsStandIn) -> None:
    """aioapns 4.0 acknowledges no error body: after 64 KiB of them the connection falls silent."""
    stand_in.rules.append(Rule(status=400, reason="x" * 900))
    way = Way(stand_in)
    answers = [await way.wake() for _ in range(150)]
    assert {status for status, _ in answers} == {400}
    way.apns.close()


async def test_goaway_is_a_retry_on_a_new_connection(stand_in: ApnsStandIn) -> None:
    stand_in.rules.append(Rule(goaway=True, times=1))
    way = Way(stand_in)
    status, _ = await way.wake()
    assert status == UNREACHABLE
    assert await way.wake() == (200, "")
    way.apns.close()


async def test_an_answer_that_never_comes_ends_by_time(stand_in: ApnsStandIn) -> None:
    stand_in.rules.append(Rule(drop=True, times=1))
    way = Way(stand_in)
    way.apns._timeout = 0.3
    assert await way.wake() == (UNREACHABLE, "no answer in time")
    way.apns._timeout = 60.0
    assert await way.wake() == (200, "")
    way.apns.close()


async def test_a_server_that_fell_silent_is_left_for_a_new_connection(
    stand_in: ApnsStandIn,
) -> None:
    """A push that nobody answers, on a connection that says nothing, is the last one on it."""
    way = Way(stand_in)
    assert await way.wake() == (200, "")
    stand_in.rules.append(Rule(drop=True))
    way.apns._timeout = 0.3
    for _ in range(20):  # a connection just made has said something: hello
        answers = await asyncio.gather(*(way.wake(f"{n:064x}") for n in range(1, 21)))
        assert {status for status, _ in answers} == {UNREACHABLE}
        if not way.apns._pool.connections:
            break
    else:
        pytest.fail("a silent connection was used on and on")
    stand_in.rules.clear()
    way.apns._timeout = 60.0
    assert await way.wake() == (200, "")
    way.apns.close()


async def test_a_late_answer_hurts_nobody(stand_in: ApnsStandIn) -> None:
    way = Way(stand_in)
    assert await way.wake() == (200, "")
    stand_in.rules.append(Rule(delay=0.5, times=1))
    way.apns._timeout = 0.3
    late = asyncio.create_task(way.wake())
    await asyncio.sleep(0)  # its time runs
    way.apns._timeout = 60.0
    assert await way.wake("cd" * 32) == (200, "")
    assert (await late)[0] == UNREACHABLE
    await asyncio.sleep(0.4)  # now its answer comes
    assert await way.wake() == (200, "")
    way.apns.close()


async def test_no_server_is_an_answer_too(stand_in: ApnsStandIn) -> None:
    way = Way(stand_in)
    await stand_in.stop()
    assert (await way.wake())[0] == UNREACHABLE


async def test_a_thousand_at_once_on_one_connection(stand_in: ApnsStandIn) -> None:
    way = Way(stand_in)
    answers = await asyncio.gather(*(way.wake(f"{n:064x}") for n in range(1, 1001)))
    assert answers.count((200, "")) == 1000
    way.apns.close()


async def test_the_stand_in_checks_what_apns_checks(stand_in: ApnsStandIn) -> None:
    way = Way(stand_in)
    assert await way.wake("not-hex") == (400, "BadDeviceToken")
    foreign = await way.apns.wake(
        "com.apple.mgmt.foreign", TOKEN, "m", push_id=str(uuid4()), lifetime=1
    )
    assert (foreign.status, foreign.reason) == (400, "TopicDisallowed")
    way.apns.close()


async def test_the_last_push_waits_for_a_device_that_is_away(stand_in: ApnsStandIn) -> None:
    way = Way(stand_in)
    await way.wake()
    await way.wake()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{stand_in.side_url}/simulator/stream") as stream,
    ):
        first = json.loads(await stream.content.readline())
        assert first["token"] == TOKEN
        await way.wake("cd" * 32)
        assert json.loads(await stream.content.readline())["token"] == "cd" * 32
    way.apns.close()
