"""PINs of commands that wait for people: who decides, or reads what was decided, learns none."""

from __future__ import annotations

import hashlib
import hmac

from services.command_queue import holding
from shared.events.devices import Platform
from tests.command_queue.approving import aged
from tests.command_queue.fleet import Fleet
from tests.command_queue.test_approvals import _held, _released, budgets

__all__ = ["budgets"]


async def test_no_pin_is_guessed_from_what_people_sign(fleet: Fleet) -> None:
    """All of a lock but six digits is known to who sees its digest: a million hashes are a second.

    It is still what was signed that runs.
    """
    macs = [await fleet.enroll(platform=Platform.MACOS, os_version="15.1") for _ in range(2)]
    [ada] = await aged(fleet, 1)
    command_id = await _held(fleet, *macs, kind="device.lock")
    cipher = fleet.trial.context.cipher
    [frozen] = await fleet.rows("SELECT content, bodies, salt FROM holding")
    signed = {frozen["content"], *frozen["bodies"]}
    salt = cipher.decrypt(frozen["salt"], table="holding", column="salt", row=command_id)
    for row in await fleet.rows("SELECT command_id, body FROM pending"):
        document = holding.opener(row["command_id"], cipher)(row["body"])
        assert b"<key>PIN</key>" in document
        assert hashlib.sha256(document).digest() not in signed
        assert hmac.digest(salt, document, "sha256") in signed
    assert (await ada.approve(command_id)).json["released"]
    await _released(fleet)
    given = await macs[0].idle()
    assert given is not None
    assert len(given.command["PIN"]) == 6


async def test_a_salt_that_was_changed_lets_nothing_run(fleet: Fleet) -> None:
    macs = [await fleet.enroll(platform=Platform.MACOS, os_version="15.1") for _ in range(2)]
    [ada] = await aged(fleet, 1)
    command_id = await _held(fleet, *macs, kind="device.lock")
    offer = await ada.offer(command_id)
    await fleet.rows("UPDATE holding SET salt = 'x'")
    assert not (await ada.approve(command_id, offer)).json.get("released")
    await _released(fleet)
    assert await macs[0].idle() is None
