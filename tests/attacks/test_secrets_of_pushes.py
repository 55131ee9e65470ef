"""What wakes devices, marked: the key of the push certificate, tokens and magic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.push_notifier.app import SERVICE
from shared.runtime.testing import RecordedCalls, Trial, trial
from tests.attacks.marked import Marked, everything_logged, everything_traced, mark_keys, nowhere
from tests.push_notifier.test_certificates import own
from tools.embedded.apns import ApnsStandIn, Rule
from tools.embedded.testing import MakeDatabase

UPLOAD = "/api/v1/push/certificate"


def _key(marked: Marked) -> tuple[ec.EllipticCurvePrivateKey, str]:
    """A key whose lines are marked one by one, and its number."""
    key = ec.generate_private_key(ec.SECP256R1())
    marked.know("push private key", key.private_numbers().private_value.to_bytes(32, "big"))
    return key, _pem(marked, key)


def _pem(marked: Marked, key: Any) -> str:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    for line in pem.splitlines()[1:-1]:
        if len(line) >= 32:
            marked.know("push private key", line)
    return str(pem)


async def _bad(service: Trial, marked: Marked, good: str) -> list[str]:
    _, pem = _key(marked)
    secret = marked.text("push private key")
    password = marked.text("password of a push key")
    wrapped = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )
    bodies: list[Any] = [
        {"certificate": good, "private_key": pem},
        {"certificate": good, "private_key": secret},
        {"certificate": good, "private_key": f"{secret}\x00"},
        {"certificate": good, "private_key": secret * 1000},
        {"certificate": good, "private_key": [secret]},
        {"certificate": good, "private_key": wrapped.decode(), "password": password},
        {"certificate": pem, "private_key": pem},
        {"certificate": secret, "private_key": pem},
        [pem],
    ]
    answers = [await service.call("PUT", UPLOAD, body) for body in bodies]
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {service.token()}"}
    rubbish = f'{{"private_key": "{secret}'.encode()
    answers.append(await service.send("api", "PUT", UPLOAD, rubbish, headers))
    assert {answer.status // 100 for answer in answers} == {4}
    return [f"{answer.status} {answer.text}" for answer in answers]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_push_notifier_tells_nobody(make_database: MakeDatabase, tmp_path: Path) -> None:
    marked = Marked()
    apns = ApnsStandIn(tmp_path / "apns")
    await apns.start()
    environ = {
        "MUSTER_PUSH_NOTIFIER_APNS_HOST": "127.0.0.1",
        "MUSTER_PUSH_NOTIFIER_APNS_PORT": str(apns.port),
        "MUSTER_PUSH_NOTIFIER_APNS_TRUST": str(apns.trust),
    }
    dsn, calls = await make_database("push_notifier"), RecordedCalls()
    with everything_logged() as log, everything_traced() as spans:
        async with trial(SERVICE, dsn, tmp_path, internal=calls, environ=environ) as service:
            mark_keys(marked, tmp_path)
            asked = await service.call("POST", "/api/v1/push/certificate-request")
            good = apns.authority.push_certificate(asked.json["csr"].encode()).decode()
            answers = [asked.text, (await service.call("PUT", UPLOAD, {"certificate": good})).text]
            topic = json.loads(answers[-1])["topic"]
            pem, key = own(topic)
            for line in key.splitlines()[1:-1]:
                if len(line) >= 32:
                    marked.know("push private key", line)
            refused = await service.call("PUT", UPLOAD, {"certificate": pem, "private_key": key})
            assert refused.status in {422, 503}
            answers.append(refused.text)
            apns.rules.append(Rule(status=403, reason="BadCertificate"))
            answers += await _bad(service, marked, good)
            apns.rules.clear()
            again = apns.authority.push_certificate(asked.json["csr"].encode(), topic).decode()
            answers.append((await service.call("PUT", UPLOAD, {"certificate": again})).text)
            answers.append((await service.call("GET", "/api/v1/push/certificates")).text)
            assert len(json.loads(answers[-1])["former"]) == 1
            await nowhere(
                marked,
                service,
                log=log.getvalue(),
                spans=spans(),
                answers="\n".join(answers),
                asked=str(calls.calls),
            )
    assert "PRIVATE KEY" not in log.getvalue()
    await apns.stop()
