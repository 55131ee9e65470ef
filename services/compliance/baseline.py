"""The policy that a new installation starts with, so that nothing is unjudged by default."""

from __future__ import annotations

import logging
from typing import Final
from uuid import UUID

from services.compliance.editing import By, Editor
from services.compliance.policies import Definition
from services.compliance.rules import EncryptionOn, LastSeenWithin, OsAtLeast, PasscodePresent
from shared.events.devices import Platform
from shared.runtime.problems import Problem

log = logging.getLogger(__name__)

BASELINE_ID: Final = UUID("01900000-0000-7000-8000-000000000001")
"""Fixed: a row with it, deleted or not, means that the seed was sown."""

BASELINE: Final = Definition(
    name="Baseline",
    description="What every device should meet: a start, to be changed as you need it.",
    rules=[
        PasscodePresent(
            id="passcode",
            title="A passcode is set",
            advice="Set a passcode in Settings.",
            # SecurityInfo reports PasscodePresent on these only (information.security.yaml).
            platforms=[Platform.IOS, Platform.IPADOS, Platform.VISIONOS],
        ),
        EncryptionOn(
            id="encryption",
            title="Data is encrypted",
            advice="On a Mac turn on FileVault, on other devices set a passcode.",
        ),
        OsAtLeast(
            id="os",
            title="The system is recent",
            advice="Install the latest software update.",
            versions={
                Platform.IOS: "17",
                Platform.IPADOS: "17",
                Platform.MACOS: "14",
                Platform.TVOS: "17",
                Platform.VISIONOS: "1",
                Platform.WATCHOS: "10",
            },
        ),
        LastSeenWithin(
            id="seen",
            title="The device was seen in the last week",
            advice="Connect the device to the internet.",
            hours=7 * 24,
        ),
    ],
)


async def seed(editor: Editor) -> None:
    """Create the baseline unless it was ever created."""
    by = By(actor="service:compliance", source="job:baseline", reason="first start")
    try:
        await editor.create(BASELINE, by, BASELINE_ID)
    except Problem as problem:
        log.warning("the baseline policy was not created: %s", problem.detail)
