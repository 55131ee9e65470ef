"""Bootstrap tokens of Macs, kept for the device that gave them (apple.md §1.2)."""

from __future__ import annotations

from services.enrollment.errors import Refused
from services.enrollment.store import enrollments, pins
from services.enrollment.store.pins import Enrollment, Pin
from shared.bus import outbox
from shared.db.locks import lock_devices
from shared.db.pool import Connection, Pool, connected, transaction
from shared.events.devices import BootstrapTokenChanged
from shared.sealed import LocalCipher

_TABLE, _COLUMN = "enrollment", "bootstrap_token"


class Escrow:
    """Stores and returns what a device escrows; encrypted, bound to its enrollment's row."""

    def __init__(self, pool: Pool, cipher: LocalCipher) -> None:
        self._pool, self._cipher = pool, cipher

    async def keep(self, pin: Pin, enrollment: Enrollment, token: bytes | None) -> None:
        """Keep a bootstrap token; None or an empty one deletes what is kept."""
        row = str(enrollment.enrollment_id)
        blob = None
        if token:
            blob = self._cipher.encrypt(token, table=_TABLE, column=_COLUMN, row=row)
        async with transaction(self._pool) as tx:
            await lock_devices(tx, [enrollment.device_id])
            await _check_same_life(tx, pin, enrollment)
            before = await enrollments.bootstrap_token(tx, enrollment.enrollment_id)
            await enrollments.set_bootstrap_token(tx, enrollment.enrollment_id, blob)
            if (blob or before) and enrollment.state != "quarantined":
                changed = BootstrapTokenChanged(
                    device_id=enrollment.device_id,
                    enrollment_id=enrollment.enrollment_id,
                    escrowed=blob is not None,
                )
                await outbox.emit(tx, [changed])

    async def give_back(self, enrollment: Enrollment) -> bytes | None:
        """The token that this enrollment escrowed; None when there is none.

        Who waits in the lobby is given nothing, not even its own; what it escrows is kept and told
        of when it is released.
        """
        if enrollment.state == "quarantined":
            return None
        async with connected(self._pool) as connection:
            blob = await enrollments.bootstrap_token(connection, enrollment.enrollment_id)
        if blob is None:
            return None
        row = str(enrollment.enrollment_id)
        return self._cipher.decrypt(blob, table=_TABLE, column=_COLUMN, row=row)


async def _check_same_life(tx: Connection, pin: Pin, enrollment: Enrollment) -> None:
    """A late message of a generation that is over must not undo the new one's beginning."""
    now = (await pins.read(tx, [pin.sha256])).get(pin.sha256)
    current = now.enrollment if now and not now.revoked else None
    if current is None or current.state == "ended" or current.generation != enrollment.generation:
        raise Refused("enrollment_changed", "the enrollment has just started over or ended")
