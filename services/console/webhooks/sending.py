"""From deliveries to receivers: one task each, so that a receiver blocks nobody but itself."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
import logging
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from services.console import metrics
from services.console.store import deliveries as store
from services.console.store import webhooks
from services.console.store.deliveries import Claimed
from services.console.store.webhooks import Target
from services.console.webhooks.settings import opened_secret
from shared.db.pool import Pool, transaction
from shared.runtime.clock import Clock
from shared.runtime.outbound import Limits, Outbound, OutboundFailed
from shared.sealed import LocalCipher

log = logging.getLogger(__name__)

LIMITS: Final = Limits(connect=5.0, total=10.0, size=64 * 1024)
LEASE: Final = timedelta(seconds=60)
_MINUTES = (0.5, 2, 10, 30, 60, 180, 360, 720, 1440)
WAITS: Final = tuple(timedelta(minutes=each) for each in _MINUTES)
"""After the first attempt that failed, after the second, …; then it is dead."""
DELIVERED_DAYS, DEAD_DAYS = timedelta(days=7), timedelta(days=30)
_AT_ONCE = 32
_OK = range(200, 300)


class Sending:
    """A job; what it starts goes on between its runs."""

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        cipher: LocalCipher,
        outbound: Outbound,
        limits: Limits = LIMITS,
    ) -> None:
        self._pool, self._clock, self._cipher = pool, clock, cipher
        self._outbound, self._limits = outbound, limits
        self._tasks: dict[UUID, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Give each receiver that has something due a task, unless it has one."""
        for webhook_id in await store.due(self._pool, self._clock.now()):
            if webhook_id not in self._tasks and len(self._tasks) < _AT_ONCE:
                task = asyncio.create_task(self._serve(webhook_id), name=f"webhook:{webhook_id}")
                self._tasks[webhook_id] = task
                task.add_done_callback(functools.partial(self._ended, webhook_id))

    def _ended(self, webhook_id: UUID, _task: asyncio.Task[None]) -> None:
        self._tasks.pop(webhook_id, None)

    async def settled(self) -> None:
        """Until nobody is being told anything."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def aclose(self) -> None:
        """Leave off; what was on its way is tried again when its lease is over."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def sweep(self) -> bool:
        """Forget what is over; whether more may wait."""
        now = self._clock.now()
        return await store.sweep(self._pool, now - DELIVERED_DAYS, now - DEAD_DAYS) > 0

    async def _serve(self, webhook_id: UUID) -> None:
        try:
            while target := await webhooks.target(self._pool, webhook_id, self._clock.now()):
                now = self._clock.now()
                claimed = await store.claim(self._pool, webhook_id, now, now + LEASE)
                if claimed is None or not await self._tell(webhook_id, target, claimed):
                    return
        except Exception:
            # The next run begins again; the lease keeps what was claimed until then.
            log.exception("Telling a webhook broke off", extra={"webhook": str(webhook_id)})

    async def _tell(self, webhook_id: UUID, target: Target, claimed: Claimed) -> bool:
        """One attempt, and what came of it; False: the receiver rests now."""
        result, told = await self._post(webhook_id, target, claimed)
        now, name = self._clock.now(), claimed.delivery_id
        after = claimed.attempts - 1
        next_at = now + WAITS[after] if after < len(WAITS) else None
        async with transaction(self._pool) as tx:
            if told:
                await store.delivered(tx, webhook_id, name, now, result)
            else:
                await store.failed(tx, webhook_id, name, now, result, next_at)
        outcome = "delivered" if told else "failed" if next_at else "dead"
        metrics.WEBHOOK_ATTEMPTS.labels(outcome).inc()
        return told

    async def _post(self, webhook_id: UUID, target: Target, claimed: Claimed) -> tuple[str, bool]:
        key, body = opened_secret(self._cipher, webhook_id, target.secret), claimed.body.encode()
        headers = {
            "Content-Type": "application/cloudevents+json; charset=utf-8",
            **signed(key, str(claimed.delivery_id), self._clock.now(), body),
        }
        try:
            reply = await self._outbound.request(
                "POST", target.url, headers=headers, data=body, limits=self._limits
            )
        except OutboundFailed as failed:
            return str(failed), False
        return f"It answered {reply.status}.", reply.status in _OK


def signed(key: bytes, delivery_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """The headers by which a receiver knows that it is ours, and of now (Standard Webhooks)."""
    stamp = str(int(now.timestamp()))
    content = f"{delivery_id}.{stamp}.".encode() + body
    made = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{made}",
    }
