"""Taking back a certificate by which no device has enrolled yet: one that an import registered, or
one that was issued.

Whoever holds one enrolls by it as long as it is valid. Once a device has, its management is ended
instead (`leaving`), which revokes all that it has.
"""

from __future__ import annotations

from typing import Final
from uuid import NAMESPACE_OID, uuid5

from services.enrollment.store import certificates
from shared.db.pool import Pool, connected, transaction
from shared.runtime import auditing
from shared.runtime.charging import Charge, charge_surely
from shared.runtime.clock import Clock
from shared.runtime.http import Caller
from shared.runtime.internal import InternalClient
from shared.runtime.problems import Problem

REVOKE: Final = "enrollment.revoke"


class Withdrawals:
    def __init__(self, pool: Pool, internal: InternalClient, clock: Clock) -> None:
        self._pool, self._internal, self._clock = pool, internal, clock

    async def withdraw(self, sha256: bytes, caller: Caller, reason: str) -> None:
        """Charged like a command that destroys: whose registrations are gone cannot come over.

        Raises Problem; the same certificate once more is charged once.
        """
        async with connected(self._pool) as connection:
            _check(await certificates.standing(connection, sha256))
        name = sha256.hex()
        act = uuid5(NAMESPACE_OID, f"withdraw {name}")
        await charge_surely(self._internal, Charge(act, "withdrawing a certificate", caller.actor))
        async with transaction(self._pool) as tx:
            _check(await certificates.lock(tx, sha256))
            await certificates.withdraw(tx, sha256, self._clock.now())
            await auditing.record(
                tx,
                caller,
                REVOKE,
                "certificate.withdraw",
                f"certificate:{name}",
                before={"revoked": False},
                after={"revoked": True},
                reason=reason,
            )


def _check(standing: certificates.Standing | None) -> None:
    if standing is None:
        raise Problem(404, "certificate_unknown", "There is no such certificate.")
    if standing.pinned:
        detail = "A device has enrolled by this certificate: end its management instead."
        raise Problem(409, "certificate_in_use", detail)
    if standing.revoked:
        raise Problem(409, "certificate_revoked", "This certificate was revoked before.")
