"""What a device says at the connect endpoint (apple.md §1.3), as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from services.command_queue.apple.schema import words
from shared.apple import plist
from shared.events.commands import ErrorDetail, TargetState

IDLE: Final = "Idle"
NOT_NOW: Final = "NotNow"
FINAL: Final[Mapping[str, TargetState]] = {
    "Acknowledged": TargetState.ACKNOWLEDGED,
    "Error": TargetState.FAILED,
    # Our fault (apple.md §1.3): never sent again as it is.
    "CommandFormatError": TargetState.FAILED,
}
_SHORT: Final = 300
_TEXT: Final = 4000
_MAX_ERRORS: Final = 20
# Part of every answer, and known already.
_ENVELOPE: Final = words(
    """
    Status CommandUUID UDID EnrollmentID UserID EnrollmentUserID UserShortName UserLongName
    NotOnConsole ErrorChain RequestType
    """
)
# mdm/commands/*.yaml, response keys that are secrets or open something.
SECRETS: Final = words(
    """
    UnlockToken ActivationLockBypassCode FDE_PersonalRecoveryKeyCMS RotateResult
    EncryptedNewRecoveryKey NewRecoveryKey RecoveryKey PersonalRecoveryKey Password
    NewPassword PIN BootstrapToken ClearPasscodeKeybag
    """
)


class AnswerError(ValueError):
    """A well-formed body that is no answer; `reason` is short and safe to log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    """One status report; `state` is None for Idle and NotNow.

    `values` is the answer in JSON's types without envelope and secrets, None when nothing is left;
    `secrets` is JSON text.
    """

    status: str
    command_uuid: str = ""
    command_id: UUID | None = None
    state: TargetState | None = None
    reason: str | None = None
    errors: tuple[ErrorDetail, ...] = ()
    values: dict[str, Any] | None = None
    secrets: bytes | None = None

    @property
    def idle(self) -> bool:
        return self.status == IDLE


def read(body: Mapping[str, Any]) -> Answer:
    """Read a parsed connect body; raises AnswerError when it reports no status."""
    status = body.get("Status")
    if not isinstance(status, str) or not status:
        raise AnswerError("no Status")
    if status == IDLE:
        return Answer(IDLE)
    command_uuid = body.get("CommandUUID")
    if not isinstance(command_uuid, str) or not command_uuid:
        raise AnswerError("no CommandUUID")
    shown, command_id = command_uuid[:_SHORT], _uuid(command_uuid)
    if status == NOT_NOW:
        return Answer(NOT_NOW, shown, command_id)
    values, secrets = _split(body)
    return Answer(
        status[:_SHORT],
        shown,
        command_id,
        state=FINAL.get(status, TargetState.FAILED),
        reason=_reason(status),
        errors=_errors(body.get("ErrorChain")),
        values=plist.to_json(values) if values else None,
        secrets=orjson.dumps(plist.to_json(secrets)) if secrets else None,
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _reason(status: str) -> str | None:
    match status:
        case "Acknowledged":
            return None
        case "Error":
            return "the device reported an error"
        case "CommandFormatError":
            return "the device could not read the command"
        case _:
            return f"unknown status: {status}"[:_SHORT]


def _errors(chain: Any) -> tuple[ErrorDetail, ...]:
    """Read an ErrorChain; texts and codes are no stable contract, so nothing in it is required."""
    if not isinstance(chain, list):
        return ()
    found = []
    for item in chain[:_MAX_ERRORS]:
        if not isinstance(item, dict):
            continue
        code, domain = item.get("ErrorCode"), item.get("ErrorDomain")
        message = item.get("USEnglishDescription") or item.get("LocalizedDescription")
        found.append(
            ErrorDetail(
                code=code if type(code) is int and abs(code) < 1 << 53 else None,
                domain=domain[:_SHORT] if isinstance(domain, str) else None,
                message=message[:_TEXT] if isinstance(message, str) else None,
            )
        )
    return tuple(found)


def _split(body: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part the answer from its secrets, at the top and one dictionary below (SecurityInfo)."""
    values: dict[str, Any] = {}
    secrets: dict[str, Any] = {}
    for key, value in body.items():
        if key in _ENVELOPE:
            continue
        if key in SECRETS:
            secrets[key] = value
        elif isinstance(value, dict) and not SECRETS.isdisjoint(value):
            secrets[key] = {name: item for name, item in value.items() if name in SECRETS}
            values[key] = {name: item for name, item in value.items() if name not in SECRETS}
        else:
            values[key] = value
    return values, secrets
