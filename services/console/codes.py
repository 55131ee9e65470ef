"""Codes of authenticator apps (TOTP, RFC 6238): six digits, thirty seconds, one step either way."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from uuid import UUID

import pyotp
import segno

from services.console.store import factors as store
from services.console.store.factors import Totp
from shared.db.pool import Connection, Pool, transaction
from shared.runtime.clock import Clock
from shared.runtime.problems import Problem
from shared.sealed import LocalCipher

PATIENCE = timedelta(minutes=10)
"""From the offer of a secret to its first code."""
_ISSUER = "Muster"
_SECONDS = 30
_WINDOW = (0, -1, 1)
_DIGITS = 6


class Codes:
    """Keeps the secret encrypted for its row, and takes each code once."""

    def __init__(self, pool: Pool, clock: Clock, cipher: LocalCipher) -> None:
        self._pool, self._clock, self._cipher = pool, clock, cipher

    async def is_set(self, account_id: UUID) -> bool:
        kept = await store.totp(self._pool, account_id)
        return kept is not None and kept.secret is not None

    async def offer(self, account_id: UUID) -> str:
        """A new secret; it counts once a code of it was shown to us."""
        secret = pyotp.random_base32()
        sealed = self._encrypted(account_id, secret)
        await store.offer(self._pool, account_id, sealed, self._clock.now())
        return secret

    async def offered(self, account_id: UUID) -> str | None:
        offered = self._waiting(await store.totp(self._pool, account_id))
        return self._opened(account_id, offered) if offered else None

    async def accept(self, tx: Connection, account_id: UUID, code: str) -> bool:
        """Whether the code is of the secret on offer, which counts from now on."""
        offered = self._waiting(await store.totp(self._pool, account_id))
        if offered is None:
            raise Problem(409, "nothing_offered", "Begin again: there is no new secret to confirm.")
        now = self._clock.now()
        step = _step_of(self._opened(account_id, offered), code, now)
        return step is not None and await store.accept(tx, account_id, offered, step, now)

    async def spend(self, tx: Connection, account_id: UUID, code: str) -> bool:
        """Whether the code is right, and the first of its time step."""
        kept = await store.totp(self._pool, account_id)
        if kept is None or kept.secret is None:
            return False
        step = _step_of(self._opened(account_id, kept.secret), code, self._clock.now())
        return step is not None and await store.spend(tx, account_id, step)

    async def sweep(self) -> None:
        """Forget what was offered too long ago."""
        async with transaction(self._pool) as tx:
            await store.sweep_offers(tx, self._clock.now() - PATIENCE)

    def _waiting(self, kept: Totp | None) -> bytes | None:
        """The secret on offer, while it may be taken."""
        if kept is None or kept.offered_at is None:
            return None
        return kept.offered if self._clock.now() - kept.offered_at < PATIENCE else None

    def _encrypted(self, account_id: UUID, secret: str) -> bytes:
        row = str(account_id)
        return self._cipher.encrypt(secret.encode(), table="totp", column="secret", row=row)

    def _opened(self, account_id: UUID, secret: bytes) -> str:
        row = str(account_id)
        return self._cipher.decrypt(secret, table="totp", column="secret", row=row).decode()


def _step_of(secret: str, code: str, now: datetime) -> int | None:
    """The time step that a code is of; spaces are how apps show it."""
    given = code.replace(" ", "")
    if len(given) != _DIGITS or not given.isascii() or not given.isdigit():
        return None
    generator = pyotp.TOTP(secret, digits=_DIGITS, interval=_SECONDS)
    current = int(now.timestamp()) // _SECONDS
    for step in (current + away for away in _WINDOW):
        if hmac.compare_digest(generator.generate_otp(step), given):
            return step
    return None


def picture(secret: str, email: str) -> str:
    """What an app scans, as an image that stands in the page itself."""
    uri = pyotp.TOTP(secret, digits=_DIGITS, interval=_SECONDS).provisioning_uri(
        name=email, issuer_name=_ISSUER
    )
    return segno.make(uri, error="m").svg_data_uri(scale=5, border=3, light="white")
