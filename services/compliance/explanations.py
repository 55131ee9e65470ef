"""What a finding means, in words for people: one text for every place that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

REASONS: Final[Mapping[str, str]] = {
    "met": "The device meets this rule.",
    "passcode_missing": "The device has no passcode.",
    "not_encrypted": "The device's data is not encrypted.",
    "os_too_old": "The operating system is older than required.",
    "app_forbidden": "A forbidden application is installed.",
    "app_missing": "A required application is not installed.",
    "not_seen": "The device has been silent for too long.",
    "attribute_differs": "A reported value is not as required.",
    "not_reported": "The device has not reported this since it enrolled.",
    "inputs_stale": "The last report is too old to count.",
    "inputs_stale_too_long": "Reports have been missing for so long that it counts as a failure.",
    "value_unreadable": "The reported value cannot be compared with the rule.",
    "error_held": "The reported value cannot be compared; the last finding holds for now.",
    "other_platform": "This rule is not for this platform.",
}
