"""What happened, in plain sentences that name the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

Row = Mapping[str, Any]
DEVICE: Final = "{device}"
"""Where a sentence names the device: a page puts a link there."""

COMMANDS: Final = {
    "device.lock": "lock",
    "device.erase": "erase",
    "device.restart": "restart",
    "device.shutdown": "shut down",
    "device.clear_passcode": "clear the passcode of",
    "device.locate": "locate",
    "device.unenroll": "unenroll",
    "lost_mode.enable": "turn on lost mode of",
    "lost_mode.disable": "turn off lost mode of",
    "lost_mode.play_sound": "play a sound on",
    "inventory.refresh": "refresh the inventory of",
    "configuration.install": "install a profile on",
    "configuration.remove": "remove a profile from",
    "app.install": "install an app on",
    "app.remove": "remove an app from",
    "certificate.rotate": "renew the certificate of",
    "raw": "send a raw command to",
}
_LEFT: Final = {
    "check_out": "left management: its profile was removed",
    "erased": "left management: it was erased",
    "unenrolled": "was unenrolled",
    "admin": "was unenrolled by an administrator",
    "revoked": "left management: its certificate was revoked",
    "superseded": "left management: the same hardware enrolled anew",
}
LOBBY_REASONS: Final = {
    "hardware_known": "known hardware with a new certificate and no proof",
    "hardware_split": "its UDID and its serial belong to different devices",
    "bound_serial_untold": "the credential is for one serial, and it tells none",
    "bound_platform_untold": "the credential is for one platform, and it does not tell which it is",
    "credential_reused": "its credential has leaked: others asked for it",
    "challenge_reused": "its profile was tried with two keys",
    "serial_unlisted": "its serial is not on the list",
    "serial_untold": "it tells no serial",
    "refused_before": "it was refused before",
    "credential_spread": "its credential was used from many addresses",
    "address_crowded": "too many came from its address",
    "address_changed": "its profile was asked for from another address",
}
"""Why an enrollment waits, by enrollment's codes (docs/lobby.md)."""
_OUTCOMES: Final = {
    "acknowledged": "the device did it",
    "verified": "done and verified",
    "failed": "the device failed",
    "expired": "nobody answered in time",
    "cancelled": "cancelled",
    "unconfirmed": "sent, and the enrollment ended without an answer",
}
_ALARMS: Final = {
    "held": "what {actor} asked for is held: {why}",
    "frozen": "{actor} froze commands: {why}",
    "cancelled": "{actor} cancelled all commands: {why}",
    "vetoed": "{actor} vetoed new power: {why}",
    "empowered": "{why}; until it counts it can be vetoed",
    "unasked": f"{DEVICE}: {{why}}",
    "refused": "what {actor} wanted was refused: {why}",
    "push_certificate": "{actor} replaced the push certificate. {why}",
}
VERDICTS: Final = {
    "compliant": "complies with",
    "noncompliant": "does not comply with",
    "not_evaluated": "was not judged by",
    "stale": "was judged too long ago by",
    "error": "could not be judged by",
    "not_applicable": "is no longer judged by",
}


def sentence(row: Row) -> str:
    """Say what a row of the activity means; DEVICE stands for the device's name."""
    say = _SAY.get(row["kind"])
    return say(row["detail"], actor_text(row["actor_name"])) if say else str(row["kind"])


def actor_text(actor: str | None) -> str:
    """Who it was, in words; people come with their names."""
    kind, _, name = (actor or "Somebody").partition(":")
    if kind == "service" and name:
        return f"Muster ({name.replace('_', ' ')})"
    if kind in {"job", "rule"} and name:
        return f"Muster ({kind} {name})"
    return actor or "Somebody"


def command_text(kind: str | None) -> str:
    """A command as a button would name it."""
    text = COMMANDS.get(kind or "", kind or "unknown")
    for tail in (" of", " on", " from", " to"):
        text = text.removesuffix(tail)
    return text[:1].upper() + text[1:]


def asked_text(asked: Row, name: str | None) -> str:
    """What is on record of a command and the name of its device, if it is for one that has a name,
    as a person would tell it: `Lock Ada's iPhone`.
    """
    text = f"{_verb(asked['kind'])} {name or devices_text(asked.get('targets', 0))}"
    return text[:1].upper() + text[1:]


def devices_text(count: int) -> str:
    return "1 device" if count == 1 else f"{count:,} devices"


def _enrolled(detail: Row, _actor: str) -> str:
    return f"{DEVICE} enrolled{' again' if detail.get('again') else ''}"


def _left(detail: Row, _actor: str) -> str:
    return f"{DEVICE} {_LEFT.get(detail.get('reason', ''), 'left management')}"


def _quarantined(detail: Row, _actor: str) -> str:
    reasons = "; ".join(LOBBY_REASONS.get(one, one) for one in detail.get("reasons", []))
    return f"What claims to be {DEVICE} waits in the lobby" + (f": {reasons}" if reasons else "")


def _refused(detail: Row, actor: str) -> str:
    claimer = f"what claimed to be {DEVICE}"
    if detail.get("how") == "left":
        return f"What claimed to be {DEVICE} left the lobby"
    if detail.get("how") == "expired":
        return f"Nobody decided about {claimer}: it is refused"
    reason = detail.get("reason")
    return f"{actor} refused {claimer}" + (f": {reason}" if reason else "")


def _owned(detail: Row, actor: str) -> str:
    if detail.get("how") == "vetoed":
        return f"{actor} vetoed that {DEVICE} becomes corporate: it stays personal"
    if detail.get("how") == "done":
        return f"{DEVICE} is corporate now, as {actor} asked: it can be erased"
    until = f"; it will be on {detail['due']}, and can be vetoed by calling it personal until then"
    return f"{actor} asked that {DEVICE}, a personal device, becomes corporate{until}"


def _changed(detail: Row, actor: str) -> str:
    fields = " and ".join(one.replace("_", " ") for one in detail.get("fields", []))
    return f"{actor} changed {fields or 'nothing'} of {DEVICE}"


def _what(detail: Row) -> str:
    return _verb(str(detail.get("command")))


def _verb(kind: str) -> str:
    return COMMANDS.get(kind, f"do {kind} on")


def _asked(detail: Row, actor: str) -> str:
    many = devices_text(detail.get("targets", 0))
    held = ", held for approval" if detail.get("state") == "held" else ""
    return f"{actor} asked to {_what(detail)} {many}{held}"


def _which(detail: Row, unknown: str) -> str:
    what = detail.get("what_was_asked")
    return f"“{what}”" if what else unknown


def _cancelled(detail: Row, actor: str) -> str:
    reason = detail.get("reason")
    return f"{actor} cancelled {_which(detail, 'a command')}" + (f": {reason}" if reason else "")


def _continued(detail: Row, actor: str) -> str:
    which = _which(detail, "a change")
    return f"{actor} let {which} go on to {detail.get('targets', 0):,} more devices"


def _approved(detail: Row, actor: str) -> str:
    others = detail.get("approvers", 1) - 1
    which = _which(detail, "a held command")
    return f"{actor}{f' and {others} more' if others else ''} approved {which}: it runs"


def _alarmed(detail: Row, actor: str) -> str:
    say = _ALARMS.get(detail.get("what", ""), "{why}")
    return f"Alarm: {say}".replace("{actor}", actor).replace("{why}", str(detail.get("reason", "")))


def _opened(detail: Row, _actor: str) -> str:
    source = detail.get("source") or "an unknown address"
    return f"Alarm: the sealed account {detail['name']} was opened from {source}"


def _provider(detail: Row, actor: str) -> str:
    what = "made" if str(detail.get("what")).endswith(".create") else "changed"
    return f"Alarm: {actor} {what} the identity provider {detail['name']}"


def _finished(detail: Row, actor: str) -> str:
    outcome = _OUTCOMES.get(detail.get("state", ""), detail.get("state"))
    reason = detail.get("reason")
    why = f" ({str(reason).replace('_', ' ')})" if reason else ""
    return f"Asked by {actor} to {_what(detail)} {DEVICE}: {outcome}{why}"


def _judged(detail: Row, _actor: str) -> str:
    return f"{DEVICE} {VERDICTS.get(detail['state'], detail['state'])} {detail['policy']}"


_SAY: Final[Mapping[str, Callable[[Row, str], str]]] = {
    "device.enrolled": _enrolled,
    "device.imported": lambda _, actor: f"{actor} imported {DEVICE}",
    "device.unenrolled": _left,
    "device.quarantined": _quarantined,
    "device.refused": _refused,
    "device.ownership": _owned,
    "device.released": lambda d, actor: f"{actor} released {DEVICE}: {d.get('reason', '')}",
    "device.changed": _changed,
    "command.created": _asked,
    "command.cancelled": _cancelled,
    "command.released": _approved,
    "command.continued": _continued,
    "command.finished": _finished,
    "guard.alarmed": _alarmed,
    "sealed.used": _opened,
    "provider.changed": _provider,
    "verdict.changed": _judged,
}
