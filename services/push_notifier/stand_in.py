"""The embedded default's first push certificate: requested, signed by the stand-in, uploaded."""

from __future__ import annotations

from aiohttp import ClientError, ClientSession, ClientTimeout

from services.push_notifier.certificates import Certificates
from services.push_notifier.store import certificates
from shared.db.pool import Pool
from shared.runtime.http import Caller

_WHO = Caller("job:stand-in", frozenset(), "job:stand-in")


class StandInPortal:
    """Walks the same way as a person does with Apple's portal, once."""

    def __init__(self, pool: Pool, portal: str, ours: Certificates) -> None:
        self._pool = pool
        self._portal = portal
        self._ours = ours
        self._done = False

    async def run(self) -> None:
        """Nothing, once any certificate is current; otherwise get one. A portal away: next time."""
        if self._done:
            return
        async with self._pool.acquire() as connection:
            current = await certificates.current_topic(connection)
        if current is None:
            signed = await self._signed()
            if signed is None:
                return
            await self._ours.upload(signed, None, _WHO, replace=False)
        self._done = True

    async def _signed(self) -> str | None:
        csr = await self._ours.request(_WHO)
        try:
            async with (
                ClientSession(timeout=ClientTimeout(10)) as session,
                session.post(self._portal, data=csr, raise_for_status=True) as answer,
            ):
                return await answer.text()
        except (ClientError, TimeoutError):
            return None
