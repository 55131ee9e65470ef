"""Requests and answers of the MDM protocol as values, and what is wrong with an answer."""

from __future__ import annotations

import plistlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

CHECK_IN_TYPE = "application/x-apple-aspen-mdm-checkin"
CONNECT_TYPE = "application/x-apple-aspen-mdm; charset=UTF-8"
OK = 200
_SUCCESSES = range(200, 300)
# Apple schema, mdm/errors/unrecognized.device.yaml: the coded form of "you are not enrolled here".
UNRECOGNIZED = "com.apple.unrecognized.device"


@dataclass(frozen=True, slots=True)
class Command:
    uuid: str
    request_type: str
    body: Mapping[str, Any]
    """The `Command` dictionary, RequestType included."""


@dataclass(frozen=True)
class Reply:
    """A server's answer. `status` is the HTTP status; nothing is raised for refusals."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return self.status == OK

    @property
    def delivered(self) -> bool:
        """Whether a device considers its message received (apple.md 1.1: any 2xx)."""
        return self.status in _SUCCESSES

    @cached_property
    def plist(self) -> dict[str, Any] | None:
        """The body as a dictionary, or None when it is none."""
        try:
            value = plistlib.loads(self.body)
        except Exception:  # noqa: BLE001 - plistlib raises whatever its parsers raise
            return None
        return value if isinstance(value, dict) else None

    @property
    def command(self) -> Command | None:
        """The command the server handed out, or None: nothing to do, or a refusal."""
        if not self.delivered or self.plist is None:
            return None
        body = self.plist.get("Command")
        uuid = self.plist.get("CommandUUID")
        if not isinstance(body, dict) or not isinstance(uuid, str):
            return None
        return Command(uuid, str(body.get("RequestType", "")), body)

    @property
    def unenrolls(self) -> bool:
        """Whether this answer makes a device drop its enrollment (apple.md 1.1)."""
        if self.status == 401:  # noqa: PLR2004
            return True
        return self.status == 403 and UNRECOGNIZED.encode() in self.body  # noqa: PLR2004

    def complaints(self, *, expects_body: bool) -> list[str]:
        """What the vendor's protocol or field experience forbids in this answer."""
        found = []
        if self.status == 401:  # noqa: PLR2004
            found.append("answered 401, which unenrolls (apple.md 1.1)")
        if self.status >= 500 and self.status != 503:  # noqa: PLR2004
            found.append(f"answered {self.status}")
        if self.delivered and self.status != OK:
            found.append(f"success is {self.status}, not 200 (apple.md 1.12, 5)")
        if self.ok and not self.body and self.headers.get("Content-Length") != "0":
            found.append("an empty answer without Content-Length: 0 (apple.md 1.1)")
        if self.ok and self.body:
            found += self._about_body(expects_body=expects_body)
        return found

    def _about_body(self, *, expects_body: bool) -> list[str]:
        if not expects_body:
            return ["a body where none belongs"]
        content_type = self.headers.get("Content-Type", "")
        if content_type.startswith("application/json"):
            return []
        if not content_type.startswith("application/xml"):
            return [f"a property list served as {content_type!r}"]
        return [] if self.plist else ["the body is no property list, or an empty one"]


def xml(message: Mapping[str, Any]) -> bytes:
    return plistlib.dumps(dict(message), fmt=plistlib.FMT_XML, sort_keys=False)
