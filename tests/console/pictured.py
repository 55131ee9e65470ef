"""What the other services answer while the screens are judged and drawn."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from services.compliance.policies import Definition
from shared.events import uuid7
from shared.events.devices import Platform
from shared.runtime.testing import RecordedCalls
from tests.console.fleet import START

COMMANDS = "/api/v1/commands"
COMMAND_ID = uuid7()
GROUP_ID = uuid7()
POLICY_ID = uuid7()
SECRET_ID = uuid7()
PEOPLE = ("Ada", "Grace", "Jonas", "Tove", "Emil", "Mary", "Alan", "Edsger", "Barbara", "Linus")
KINDS = (
    (Platform.IOS, "iPhone", "iPhone 15", "iPhone15,4", "17.6.1"),
    (Platform.IPADOS, "iPad", "iPad (10th generation)", "iPad13,18", "18.1"),
    (Platform.MACOS, "MacBook Air", "MacBook Air (M2)", "Mac14,2", "15.0.1"),
)


def others(calls: RecordedCalls, devices: list[UUID], actor: str) -> None:
    """What the other services answer."""
    command: dict[str, Any] = {
        "command_id": str(COMMAND_ID),
        "kind": "device.restart",
        "request_type": "RestartDevice",
        "command_class": "disruptive",
        "summary": {"request_type": "RestartDevice"},
        "actor": actor,
        "reason": "the new Wi-Fi profile needs it",
        "state": "active",
        "hold_reason": None,
        "end_reason": None,
        "target_count": 30,
        "created_at": (START - timedelta(minutes=4)).isoformat(),
        "expires_at": (START + timedelta(days=7)).isoformat(),
        "progress": {"acknowledged": 21, "failed": 1, "sent": 3, "queued": 5},
    }
    erase = command | {
        "kind": "device.erase",
        "request_type": "EraseDevice",
        "summary": {"request_type": "EraseDevice"},
        "command_class": "destructive",
        "state": "held",
        "target_count": 12,
        "reason": "sold",
    }
    lock = command | {"kind": "device.lock", "state": "finished", "target_count": 1}
    states = ("acknowledged", "acknowledged", "failed", "sent", "queued")
    targets = [
        {
            "target_id": str(uuid7()),
            "device_id": str(device_id),
            "state": states[number % len(states)],
            "reason": "needs a supervised device" if number % len(states) == 2 else None,
            "errors": None,
            "answer": {"Status": "Acknowledged"} if number % len(states) < 2 else None,
            "finished_at": START.isoformat() if number % len(states) < 3 else None,
        }
        for number, device_id in enumerate(devices)
    ]
    one = {
        "command_id": str(COMMAND_ID),
        "kind": "device.lock",
        "actor": actor,
        "state": "sent",
        "reason": None,
        "errors": None,
        "queued_at": START.isoformat(),
        "expires_at": (START + timedelta(days=7)).isoformat(),
        "finished_at": START.isoformat(),
    }
    done = one | {"state": "acknowledged"}
    windows = ((10, 5, 3), (1440, 25, 3), (43200, 50, 3))
    budgets = [
        {
            "whose": whose,
            "command_class": kind,
            "window_minutes": minutes,
            "limit": limit * (1 if kind == "destructive" else 10),
            "spent": spent,
        }
        for kind in ("destructive", "disruptive")
        for whose in ("actor", "installation")
        for minutes, limit, spent in windows
    ]
    facts = (("os.version", "17.6.1"), ("passcode.present", True), ("security.encrypted", True))
    answers = {
        f"{COMMANDS}?limit=50": {"items": [command, erase, lock], "next": "next"},
        f"{COMMANDS}/{COMMAND_ID}": command,
        f"{COMMANDS}/{COMMAND_ID}/targets?limit=50": {"items": targets, "next": None},
        f"{COMMANDS}/{COMMAND_ID}/targets": {"items": targets[3:], "next": None},
        f"{COMMANDS}/devices/{devices[3]}": {"queue": [one], "items": [done], "next": None},
        f"{COMMANDS}/budgets": {"items": budgets},
        **_guarded(erase),
    }
    _grouped(calls, devices, actor)
    _judged(calls, actor)
    _kept(calls, devices[5], actor)
    _made(calls)
    _installed(calls, devices[3])
    for path, answer in answers.items():
        calls.answers["command_queue", path] = answer
    calls.answers["inventory", f"/api/v1/inventory/devices/{devices[3]}/facts"] = {
        "items": [{"name": name, "value": value} for name, value in facts]
    }
    later = (START + timedelta(days=340)).isoformat()
    certificate: dict[str, Any] = {"serial_number": "4F1D209C77", "issued_at": START.isoformat()}
    certificate |= {"not_after": later, "revoked_at": None, "revocation_reason": None}
    former = {"revoked_at": START.isoformat(), "revocation_reason": "superseded"}
    api = f"/api/v1/enrollment/certificates?device_id={devices[3]}&limit=25"
    calls.answers["enrollment", api] = {
        "items": [
            certificate | {"sha256": "9c41" * 16},
            certificate | former | {"sha256": "07ae" * 16},
        ],
        "next": None,
    }
    calls.answers["enrollment", "/api/v1/enrollment/credentials?limit=50"] = {
        "items": [
            {
                "credential_id": str(uuid7()),
                "name": name,
                "max_uses": 10,
                "uses": uses,
                "expires_at": (START + timedelta(days=7)).isoformat(),
                "revoked_at": None,
                "platform": "ios",
                "ownership": "corporate",
                "serial": None,
                "serials": "any",
                "leaked_at": None,
                "user": None,
                "created_by": actor,
            }
            for name, uses in (("Field phones", 3), ("Class of 2026", 10))
        ],
        "next": None,
    }
    guest = {
        "enrollment_id": str(COMMAND_ID),
        "device_id": str(devices[4]),
        "udid": "00008110-0000000000000004",
        "conflicts_with": str(devices[4]),
        "reasons": ["hardware_known", "address_changed"],
        "score": 100,
        "credential_id": str(uuid7()),
        "credential_name": "Field phones",
        "handed_to": "203.0.113.7",
        "address": "198.51.100.20",
        "waits_since": (START - timedelta(hours=2)).isoformat(),
        "expires_at": (START + timedelta(days=7)).isoformat(),
        "authenticated_at": START.isoformat(),
        "decision": None,
        "decided_by": None,
        "decided_at": None,
        "decision_reason": None,
        "claimed": {"name": "Emil's iPad", "serial": "C39XK00004", "product": "iPad13,18"},
        "mode": "device",
        "ownership": "corporate",
        "user": None,
    }
    known = {
        "device_id": str(devices[4]),
        "name": "Emil's iPad",
        "serial": "C39XK00004",
        "udid": "00008110-0000000000000004",
        "model": "iPad (10th generation)",
        "product": "iPad13,18",
        "os_version": "18.1",
        "user": "emil@example.org",
        "ownership": "corporate",
        "state": "enrolled",
        "last_seen": START.isoformat(),
    }
    stranger = guest | {"reasons": ["serial_unlisted"], "score": 50, "address": None}
    stranger["claimed"] = {"name": "iPhone", "serial": "F2LXK00099"}
    lobby = "/api/v1/enrollment/lobby"
    calls.answers["enrollment", f"{lobby}?limit=50"] = {"items": [guest, stranger], "next": None}
    calls.answers["enrollment", f"{lobby}/counts"] = {"waiting": 2}
    calls.answers["enrollment", f"{lobby}/{COMMAND_ID}"] = guest | {"device": known}
    calls.answers["push_notifier", "/api/v1/push/certificates"] = {
        "items": [
            {
                "topic": "com.apple.mgmt.External.5d8b4c1e",
                "not_after": (START + timedelta(days=200)).isoformat(),
                "days_left": 200,
                "current": True,
                "uploaded_at": START.isoformat(),
                "uploaded_by": actor,
                "tried_at": START.isoformat(),
            }
        ],
        "former": [],
    }
    calls.answers["inventory", "/api/v1/inventory/facts"] = {
        "items": [{"name": name, "about": "what the device said last"} for name, _ in facts]
    }


def _made(calls: RecordedCalls) -> None:
    """What is shown once, to whoever made it."""
    calls.answers["enrollment", "/api/v1/enrollment/credentials"] = {
        "name": "Field phones",
        "max_uses": 10,
        "expires_at": (START + timedelta(days=7)).isoformat(),
        "enroll_url": "https://mdm.example.org/enroll/7c1f0b64d2a94e0c9d5be0c1a7f3",
    }
    lines = ["MIICijCCAXICAQAwRTELMAkGA1UEBhMCQVUxEzARBgNVBAgMClNvbWUtU3RhdGU0"] * 8
    begun, ended = "-----BEGIN CERTIFICATE REQUEST-----", "-----END CERTIFICATE REQUEST-----"
    request = {"csr": "\n".join([begun, *lines, ended])}
    calls.answers["push_notifier", "/api/v1/push/certificate-request"] = request


def _installed(calls: RecordedCalls, phone: UUID) -> None:
    """Apps and profiles of a phone."""
    since = (START - timedelta(days=12)).isoformat()
    told: dict[str, Any] = {"next": None, "reported_at": (START - timedelta(hours=3)).isoformat()}
    app: dict[str, Any] = {"version": "4021", "since": since, "managed": None}
    app |= {"short_version": None}
    profile: dict[str, Any] = {"organization": "Example", "uuid": "u", "since": since}
    profile |= {"encrypted": False, "managed": True, "removal_disallowed": True}
    unmanaged = {"organization": None, "managed": False, "removal_disallowed": False}
    path = f"/api/v1/inventory/devices/{phone}"
    calls.answers["inventory", f"{path}/applications?limit=50"] = told | {
        "items": [
            app | {"identifier": "com.example.tour", "name": "Tour plan", "short_version": "4.2"},
            app | {"identifier": "org.example.van", "name": "Van", "managed": True},
            app | {"identifier": "name:Calculator", "name": "Calculator"},
        ]
    }
    calls.answers["inventory", f"{path}/profiles?limit=50"] = told | {
        "items": [
            profile | {"identifier": "org.example.mdm", "name": "Device management"},
            profile | {"identifier": "org.example.wifi", "name": "Wi-Fi of the depots"},
            profile | unmanaged | {"identifier": "net.elsewhere.beta", "name": "Beta programme"},
        ]
    }


def _kept(calls: RecordedCalls, mac: UUID, actor: str) -> None:
    """PINs that a Mac was locked by: one that holds, and one that it never got."""
    holds = {
        "secret_id": str(SECRET_ID),
        "kind": "lock_pin",
        "command_id": str(COMMAND_ID),
        "actor": actor,
        "reason": "left on a train",
        "state": "acknowledged",
        "created_at": (START - timedelta(hours=2)).isoformat(),
        "revealed_at": (START - timedelta(minutes=10)).isoformat(),
    }
    cancelled = {"state": "cancelled", "revealed_at": None}
    former = holds | cancelled | {"created_at": (START - timedelta(days=3)).isoformat()}
    former |= {"secret_id": str(uuid7())}
    path = f"{COMMANDS}/devices/{mac}/secrets"
    calls.answers["command_queue", path] = {"items": [holds, former]}
    shown = {"kind": "lock_pin", "value": "492817"}
    calls.answers["command_queue", f"{path}/{SECRET_ID}/reveal"] = shown


def _grouped(calls: RecordedCalls, devices: list[UUID], actor: str) -> None:
    """Groups, and who is in one."""
    api = "/api/v1/inventory/groups"
    field = {
        "group_id": str(GROUP_ID),
        "name": "Field service",
        "description": "Vans and what is in them",
        "protected": True,
        "members": 4,
        "created_at": (START - timedelta(days=40)).isoformat(),
        "created_by": actor,
        "changed_at": (START - timedelta(days=3)).isoformat(),
        "changed_by": actor,
    }
    empty = field | {"name": "Board", "description": None, "members": 0, "protected": False}
    members = [
        {
            "device_id": str(device_id),
            "name": f"{PEOPLE[number]}'s {KINDS[number % len(KINDS)][1]}",
            "serial": f"C39XK{number:05}",
            "platform": KINDS[number % len(KINDS)][0],
            "added_at": (START - timedelta(days=number)).isoformat(),
            "added_by": actor,
        }
        for number, device_id in enumerate(devices[:4])
    ]
    calls.answers["inventory", f"{api}?limit=50"] = {"items": [field, empty], "next": None}
    calls.answers["inventory", f"{api}/{GROUP_ID}"] = field
    calls.answers["inventory", f"{api}/{GROUP_ID}/members?limit=50"] = {
        "items": members,
        "next": None,
    }


def _judged(calls: RecordedCalls, actor: str) -> None:
    """A policy, and what it was before."""
    api = "/api/v1/compliance/policies"
    rules: list[dict[str, Any]] = [
        {"kind": "passcode_present", "title": "A passcode", "advice": "Set a passcode."},
        {"kind": "encryption_on"},
        {"kind": "os_at_least", "versions": {"ios": "17.6", "ipados": "17.6", "macos": "15.0"}},
    ]
    definition = Definition.model_validate(
        {"name": "Baseline", "description": "What every device must be like.", "rules": rules}
    ).model_dump(mode="json")
    changed = {"changed_at": (START - timedelta(days=2)).isoformat(), "changed_by": actor}
    policy = {
        **definition,
        **changed,
        "policy_id": str(POLICY_ID),
        "version": 2,
        "created_at": (START - timedelta(days=40)).isoformat(),
        "counts": {"compliant": 20, "noncompliant": 10},
        "rollout": {"judged": 30, "started_at": START.isoformat(), "finished_at": None},
    }
    former = {**changed, "version": 1, "definition": definition, "reason": None}
    versions = [{**former, "version": 2, "reason": "new systems"}, former]
    calls.answers["compliance", f"{api}?limit=50"] = {"items": [policy], "next": None}
    calls.answers["compliance", f"{api}/{POLICY_ID}"] = policy
    calls.answers["compliance", f"{api}/{POLICY_ID}/versions?limit=50"] = {
        "items": versions,
        "next": None,
    }
    why = ["The operating system is older than required."]
    failing = {"platform": "ios", "state": "noncompliant", "why": why}
    calls.answers["compliance", "/api/v1/compliance/previews"] = {
        "applies_to": 41_233,
        "judged": 1_000,
        "counts": {"compliant": 962, "noncompliant": 31, "not_evaluated": 7},
        "worse": 28,
        "better": 0,
        "failing": [
            failing
            | {"device_id": str(POLICY_ID), "name": f"{who}'s iPhone", "serial": f"C39XK{n:05}"}
            for n, who in enumerate(PEOPLE[:4])
        ],
    }


def _guarded(erase: dict[str, Any]) -> dict[str, Any]:
    """What is held and frozen."""
    later = (START + timedelta(hours=24)).isoformat()
    held = erase | {
        "hold_reason": "12 destructive targets: 3 of 5 of the asker's budget are spent",
        "needs": 1,
        "not_before": START.isoformat(),
        "given": 0,
    }
    freeze = {
        "freeze_id": str(COMMAND_ID),
        "command_class": None,
        "before": None,
        "actor": erase["actor"],
        "reason": "a laptop was stolen",
        "created_at": START.isoformat(),
    }
    word = {"account_id": str(uuid7()), "name": "Grace Hopper", "expires_at": later}
    offer = {
        "digest": "5f" * 32,
        "approval_expires_at": later,
        "given": [word | {"approved_at": START.isoformat()}],
        "why_not": None,
        "options": {"challenge": "X19f"},
    }
    return {
        f"{COMMANDS}/approvals?limit=50": {"items": [held, held | {"needs": None}], "next": "more"},
        f"{COMMANDS}/freeze": {"items": [freeze]},
        f"{COMMANDS}/{COMMAND_ID}/approval": offer | {"command": held, "given": []},
        f"{COMMANDS}/freeze/{COMMAND_ID}/lift": offer | {"freeze": freeze, "needs": 2},
    }
