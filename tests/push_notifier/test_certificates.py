"""A push certificate takes the place of another only if APNs takes it, and one step leads back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.push_notifier.certificates import NOBODY, PERMISSION, Certificates
from services.push_notifier.sending import Sender
from services.push_notifier.store import certificates as store
from services.push_notifier.store.certificates import PushCertificate
from shared.events.audit import AuditRecorded
from shared.events.base import uuid7
from shared.events.pushes import PushCertificateChanged, PushFailed, PushSent
from shared.runtime.http import Caller
from shared.runtime.problems import Problem
from tests.push_notifier.road import TOKEN, Road
from tools.embedded.apns import Rule
from tools.embedded.apns_authority import Authority

WHO = Caller("account:ada", frozenset({PERMISSION}), "192.0.2.7")


async def in_use(road: Road) -> PushCertificate:
    async with road.pool.acquire() as connection:
        topic = await store.current_topic(connection)
        assert topic is not None
        found = await store.one(connection, topic)
    assert found is not None
    return found


async def signed(road: Road, topic: str | None, authority: Authority | None = None) -> str:
    csr = await road.certificates.request(WHO)
    by = authority or road.apns.authority
    return by.push_certificate(csr.encode(), topic).decode()


async def refused(road: Road, pem: str, key: str | None = None, **more: Any) -> str:
    """Why; and that nothing was changed, and nothing charged."""
    before, told = await in_use(road), await road.events(PushCertificateChanged)
    with pytest.raises(Problem) as problem:
        await road.certificates.upload(pem, key, WHO, replace=more.get("replace", False))
    assert await in_use(road) == before
    assert await road.events(PushCertificateChanged) == told
    assert await road.pool.fetch("SELECT FROM former_push_certificate") == []
    return problem.value.code


async def is_woken(road: Road) -> bool:
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    await road.queue(device, channel)
    before = len(await road.events(PushSent))
    await road.sender.run()
    return len(await road.events(PushSent)) == before + 1


def own(topic: str) -> tuple[str, str]:
    """Anybody's certificate with somebody's topic, by the key that it names itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.USER_ID, topic)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1)
    now = datetime.now(UTC)
    builder = builder.not_valid_before(now - timedelta(days=1))
    certificate = builder.not_valid_after(now + timedelta(days=300)).sign(key, hashes.SHA256())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), pem.decode()


class Gate:
    """APNs as far as its TLS: asyncio's own servers cut who fails the handshake off without the
    alert that OpenSSL has for them.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context, self._listening = context, socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            with connection, connection.dup() as below:
                if connection.recv(1, socket.MSG_PEEK) == b"":
                    return
                with contextlib.suppress(ssl.SSLError):
                    self._context.wrap_socket(connection, server_side=True).close()
                below.shutdown(socket.SHUT_WR)  # whoever closes on unread bytes resets instead
                while below.recv(4096):
                    pass

    def close(self) -> None:
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._listening.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_self_signed_one_with_our_topic_silences_nobody(
    road: Road, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """Of either version of TLS: the one judges before, the other after we believe to be there."""
    context = road.apns.authority.server_context()
    context.maximum_version = version
    gate, ours = Gate(context), road.certificates
    settings = road.settings.model_copy(update={"apns_port": gate.port})
    road.certificates = Certificates(road.pool, road.cipher, road.calls, settings, road.clock)
    topic = (await in_use(road)).topic
    foreign = await signed(road, topic, Authority.open(tmp_path / "foreign", "127.0.0.1"))
    assert await refused(road, *own(topic)) == "push_certificate_refused"
    assert await refused(road, *own("com.apple.mgmt.x"), replace=True) == "push_certificate_refused"
    assert await refused(road, foreign) == "push_certificate_refused"
    await asyncio.to_thread(gate.close)
    assert await refused(road, *own(topic)) == "apns_silent"
    road.certificates = ours
    assert road.calls.calls == []
    assert await is_woken(road)


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (Rule(status=403, reason="BadCertificate"), "push_certificate_refused"),
        (Rule(status=403, reason="BadCertificateEnvironment"), "push_certificate_refused"),
        (Rule(status=400, reason="TopicDisallowed"), "push_certificate_refused"),
        (Rule(status=429, reason="TooManyRequests"), "apns_silent"),
        (Rule(status=503, reason="ServiceUnavailable"), "apns_silent"),
        (Rule(drop=True), "apns_silent"),
        (Rule(goaway=True), "apns_silent"),
    ],
    ids=lambda value: value.reason or "silence" if isinstance(value, Rule) else "",
)
async def test_only_a_certificate_that_apns_takes_is_taken(
    road: Road, rule: Rule, code: str
) -> None:
    pem = await signed(road, (await in_use(road)).topic)
    road.apns.rules.append(rule)
    assert await refused(road, pem) == code
    road.apns.rules.clear()
    stored = await road.certificates.upload(pem, None, WHO, replace=False)
    assert (stored.tried_at, await in_use(road)) == (road.clock.now(), stored)
    assert await is_woken(road)


async def test_without_apns_a_replacement_waits_and_the_first_one_does_not(road: Road) -> None:
    pem = await signed(road, (await in_use(road)).topic)
    await road.apns.stop()
    assert await refused(road, pem) == "apns_silent"
    await road.pool.execute("DELETE FROM push_certificate")
    stored = await road.certificates.upload(pem, None, WHO, replace=False)
    assert stored.tried_at is None
    await road.certificates.try_untried()
    assert (await in_use(road)).tried_at is None
    await road.apns.start()
    await road.certificates.try_untried()
    assert (await in_use(road)).tried_at == road.clock.now()


async def test_the_first_one_too_is_refused_when_apns_says_so(road: Road) -> None:
    await road.pool.execute("DELETE FROM push_certificate")
    road.apns.rules.append(Rule(status=403, reason="BadCertificate"))
    pem = await signed(road, None)
    with pytest.raises(Problem) as problem:
        await road.certificates.upload(pem, None, WHO, replace=False)
    assert problem.value.code == "push_certificate_refused"
    assert await road.pool.fetch("SELECT FROM push_certificate") == []


async def test_a_replacement_is_charged_told_and_on_record(road: Road) -> None:
    before = await in_use(road)
    stored = await road.certificates.upload(
        await signed(road, before.topic), None, WHO, replace=False
    )
    [(service, method, path, body)] = road.calls.calls
    assert (service, method, path) == ("command_queue", "POST", "/internal/v1/commands/charge")
    assert body is not None
    assert (body["actor"], body["command_class"], body["device_ids"]) == (
        WHO.actor,
        "destructive",
        [],
    )
    first, told = await road.events(PushCertificateChanged)
    assert (first.former_topic, first.by) == (None, "job:stand-in")
    assert (told.former_topic, told.by, told.fingerprint) == (
        before.topic,
        WHO.actor,
        stored.fingerprint,
    )
    record = (await road.events(AuditRecorded))[-1]
    assert (record.action, record.actor, record.permission, record.source) == (
        "push.certificate_changed",
        WHO.actor,
        PERMISSION,
        WHO.source,
    )
    assert record.before["fingerprint"] == before.fingerprint
    assert record.after["fingerprint"] == stored.fingerprint
    assert [push["token"] for push in road.apns.received] == [NOBODY]


@pytest.mark.parametrize("how", ["over budget", "silent"])
async def test_without_room_in_the_budgets_nothing_is_replaced(road: Road, how: str) -> None:
    pem = await signed(road, (await in_use(road)).topic)
    if how == "silent":
        road.calls.failing.add("command_queue")
    path = "/internal/v1/commands/charge"
    road.calls.answers["command_queue", path] = {"refused": "5 in 10 minutes"}
    expected = {"silent": "guard_silent", "over budget": "guard_refused"}
    assert await refused(road, pem) == expected[how]


async def test_one_step_leads_back_without_a_charge(road: Road) -> None:
    before = await in_use(road)
    new = await road.certificates.upload(await signed(road, before.topic), None, WHO, replace=False)
    charged = len(road.calls.calls)
    road.clock.advance(timedelta(minutes=5))
    back = await road.certificates.go_back(before.fingerprint, WHO)
    assert (back.fingerprint, back.certificate) == (before.fingerprint, before.certificate)
    assert len(road.calls.calls) == charged
    assert await is_woken(road)
    rows = await road.pool.fetch("SELECT fingerprint, key FROM former_push_certificate")
    assert [row["fingerprint"] for row in rows] == [new.fingerprint]
    assert b"PRIVATE KEY" not in rows[0]["key"]
    record = (await road.events(AuditRecorded))[-1]
    assert (record.action, record.actor, record.permission, record.source) == (
        "push.certificate_restored",
        WHO.actor,
        PERMISSION,
        WHO.source,
    )
    assert record.before["fingerprint"] == new.fingerprint
    assert record.after["fingerprint"] == before.fingerprint
    with pytest.raises(Problem) as problem:
        await road.certificates.go_back("no such", WHO)
    assert problem.value.code == "certificate_unknown"


async def test_one_that_apns_does_not_take_any_more_is_not_gone_back_to(road: Road) -> None:
    before = await in_use(road)
    new = await road.certificates.upload(await signed(road, before.topic), None, WHO, replace=False)
    road.apns.rules.append(Rule(status=403, reason="CertificateRevoked"))
    with pytest.raises(Problem) as problem:
        await road.certificates.go_back(before.fingerprint, WHO)
    assert problem.value.code == "push_certificate_refused"
    assert (await in_use(road)).fingerprint == new.fingerprint


async def test_from_another_topic_one_step_leads_back_as_well(road: Road) -> None:
    """Meanwhile the devices of the first topic are woken by its own certificate."""
    before = await in_use(road)
    pem = await signed(road, None)
    assert await refused(road, pem) == "push_topic_differs"
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    new = await road.certificates.upload(pem, None, WHO, replace=True)
    assert (await road.topic(), new.topic != before.topic) == (new.topic, True)
    await road.queue(device, channel)
    await road.sender.run()
    assert len(await road.events(PushSent)) == 1
    await road.certificates.go_back(before.fingerprint, WHO)
    assert await road.topic() == before.topic


async def test_what_is_in_use_already_is_put_in_place_of_nothing(road: Road) -> None:
    now = await in_use(road)
    again = await road.certificates.upload(now.certificate, None, WHO, replace=False)
    assert again == now
    assert road.calls.calls == []
    assert len(await road.events(PushCertificateChanged)) == 1


async def test_whoever_is_quicker_is_not_overwritten_unseen(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = (await in_use(road)).topic
    mine, theirs = await signed(road, topic), await signed(road, topic)
    tried = road.certificates._tried

    async def slowly(*new: Any, first: bool) -> Any:
        at = await tried(*new, first=first)
        monkeypatch.setattr(road.certificates, "_tried", tried)
        await road.certificates.upload(theirs, None, WHO, replace=False)
        return at

    monkeypatch.setattr(road.certificates, "_tried", slowly)
    with pytest.raises(Problem) as problem:
        await road.certificates.upload(mine, None, WHO, replace=False)
    assert problem.value.code == "push_certificate_moved"


async def test_a_certificate_that_tls_refuses_opens_the_circuit(road: Road) -> None:
    """What was in use may be refused one day: its channels wait, as after a 403."""
    device = uuid7()
    channel = await road.enroll(device, TOKEN, road.clock.now())
    topic = (await in_use(road)).topic
    pem, key = own(topic)
    sealed = road.cipher.encrypt(key.encode(), table="push_certificate", column="key", row=topic)
    await road.pool.execute(
        "UPDATE push_certificate SET certificate = $1, key = $2, fingerprint = 'x'", pem, sealed
    )
    await road.queue(device, channel)
    gate = Gate(road.apns.authority.server_context())
    settings = road.settings.model_copy(update={"apns_port": gate.port})
    ours = Certificates(road.pool, road.cipher, road.calls, settings, road.clock)
    await Sender(road.pool, road.keyring, ours, settings, road.clock).run()
    [failed] = await road.events(PushFailed)
    assert (failed.status, "UNKNOWN_CA" in failed.reason) == (403, True)
    assert await road.pool.fetchval("SELECT topic FROM circuit") == topic
    ours.close()
    await asyncio.to_thread(gate.close)


async def test_rubbish_is_no_certificate(road: Road) -> None:
    for rubbish in ("", "-----BEGIN"):
        assert await refused(road, rubbish) == "certificate_unreadable"
