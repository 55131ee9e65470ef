"""The screen Enrollment, over the APIs of enrollment and push_notifier."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.events import uuid7
from shared.runtime.testing import RecordedCalls
from tests.console.browsing import Browser, signed_in, words_of
from tests.console.fleet import START, Console

CREDENTIALS = "/api/v1/enrollment/credentials"
CREDENTIAL_ID = uuid7()
ADDRESS = "https://mdm.example.org/enroll/secret-of-the-credential"


@pytest.fixture
def calls() -> RecordedCalls:
    calls = RecordedCalls()
    calls.answers["enrollment", f"{CREDENTIALS}?limit=50"] = {"items": [], "next": None}
    calls.answers["enrollment", "/api/v1/enrollment/lobby/counts"] = {"waiting": 3}
    calls.answers["push_notifier", "/api/v1/push/certificates"] = {"items": []}
    return calls


@pytest.fixture
async def owner(view: Console) -> Browser:
    return await signed_in(view.service, role="owner")


def _credential(**changes: Any) -> dict[str, Any]:
    return {
        "credential_id": str(CREDENTIAL_ID),
        "name": "Field phones",
        "max_uses": 10,
        "uses": 3,
        "expires_at": (START + timedelta(days=7)).isoformat(),
        "revoked_at": None,
        "platform": "ios",
        "ownership": "corporate",
        "serial": None,
        "serials": "listed",
        "leaked_at": None,
        "user": None,
        "created_by": "service:test",
    } | changes


async def test_credentials_tell_their_state(owner: Browser, calls: RecordedCalls) -> None:
    empty = words_of(await owner.get("/enrollment"))
    assert "No credential was made yet" in empty
    assert "No push certificate yet" in empty
    assert "Lobby 3 wait" in empty
    gone = START.isoformat()
    rows = [
        _credential(serials="any", leaked_at=gone),
        _credential(uses=10),
        _credential(expires_at=gone),
        _credential(revoked_at=gone),
    ]
    calls.answers["enrollment", f"{CREDENTIALS}?limit=50"] = {"items": rows, "next": None}
    page = await owner.get("/enrollment")
    text = words_of(page)
    assert "Lets devices in Leaked 3 of 10 Corporate, iOS, any serial" in text
    for said in ("iOS, listed serials", "Used up", "Expired", "Revoked"):
        assert said in text, said
    assert page.text.count("/revoke") == 1


async def test_a_new_address_is_shown_once_with_its_code(
    owner: Browser, calls: RecordedCalls
) -> None:
    calls.answers["enrollment", CREDENTIALS] = _credential(enroll_url=ADDRESS)
    fields = {"name": "Field phones", "uses": "10", "days": "7", "platform": "", "serial": ""}
    page = await owner.post("/enrollment/credentials", fields)
    assert page.status == 200
    assert f'href="{ADDRESS}"' in page.text
    assert "data:image/svg+xml" in page.text
    [body] = [call[3] for call in calls.calls if call[1] == "POST"]
    assert body is not None
    assert (body["max_uses"], body["expires_at"]) == (10, START + timedelta(days=7))
    assert (body["platform"], body["serial"], body["ownership"]) == (None, None, "corporate")
    assert body["serials"] == "listed"  # "any" is a choice that somebody makes
    assert ADDRESS not in (await owner.get("/enrollment")).text


async def test_one_is_revoked(owner: Browser, calls: RecordedCalls) -> None:
    answer = await owner.post(f"/enrollment/credentials/{CREDENTIAL_ID}/revoke")
    assert answer.status == 303
    assert calls.calls[-1][:3] == ("enrollment", "DELETE", f"{CREDENTIALS}/{CREDENTIAL_ID}")


async def test_the_push_certificate_is_replaced_after_step_up_only(
    owner: Browser, calls: RecordedCalls
) -> None:
    calls.answers["push_notifier", "/api/v1/push/certificate-request"] = {"csr": "-----BEGIN X"}
    assert "-----BEGIN X" in (await owner.post("/enrollment/push/request")).text
    answer = await owner.post("/enrollment/push/certificate", {"certificate": "PEM"})
    assert (answer.status, "silences the whole fleet" in answer.text) == (403, True)
    assert "PUT" not in {call[1] for call in calls.calls}


@pytest.mark.usefixtures("proven")
async def test_a_certificate_reaches_push_notifier(owner: Browser, calls: RecordedCalls) -> None:
    answer = await owner.post("/enrollment/push/certificate", {"certificate": "PEM"})
    assert answer.status == 303
    body = {"certificate": "PEM", "replace_topic": False}
    assert calls.calls[-1] == ("push_notifier", "PUT", "/api/v1/push/certificate", body)


@pytest.mark.usefixtures("proven")
async def test_one_step_leads_back_to_a_certificate_that_was_replaced(
    owner: Browser, calls: RecordedCalls
) -> None:
    one = {
        "topic": "com.apple.mgmt.x",
        "fingerprint": "ab12",
        "not_after": START.isoformat(),
        "days_left": 200,
        "current": True,
        "tried_at": None,
        "uploaded_at": START.isoformat(),
        "uploaded_by": "account:x",
    }
    former = one | {"fingerprint": "cd34", "replaced_at": START.isoformat()}
    answer = {"items": [one], "former": [former]}
    calls.answers["push_notifier", "/api/v1/push/certificates"] = answer
    text = words_of(await owner.get("/enrollment"))
    assert "Not tried yet" in text
    assert "Use again" in text
    answered = await owner.post("/enrollment/push/certificates/cd34/use")
    assert answered.status == 303
    path = "/api/v1/push/certificates/cd34/use"
    assert calls.calls[-1][:3] == ("push_notifier", "POST", path)
    assert (await owner.post("/enrollment/push/certificates/..%2Fx/use")).status == 404


async def test_going_back_needs_a_step_up_too(owner: Browser, calls: RecordedCalls) -> None:
    answer = await owner.post("/enrollment/push/certificates/cd34/use")
    assert (answer.status, "Nothing was done yet" in answer.text) == (403, True)
    assert "POST" not in {call[1] for call in calls.calls}


async def test_who_may_only_read_sees_what_is_missing(view: Console, calls: RecordedCalls) -> None:
    reader = await signed_in(view.service, everywhere=["enrollment.read"])
    text = words_of(await reader.get("/enrollment"))
    for permission in ("enrollment.credential.write", "push.read", "push.certificate"):
        assert f"This needs the permission {permission}." in text
    assert (await reader.post("/enrollment/credentials", {"name": "x"})).status == 403
    calls.failing.add("enrollment")
    assert "does not answer now" in words_of(await reader.get("/enrollment"))
