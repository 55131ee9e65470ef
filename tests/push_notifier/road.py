"""push_notifier on real servers, as tests of pushes see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.push_notifier.certificates import NOBODY, Certificates
from services.push_notifier.consumers import handlers
from services.push_notifier.sending import Pushed, Sender
from services.push_notifier.settings import PushSettings
from services.push_notifier.stand_in import StandInPortal
from shared.bus import apply, outbox
from shared.bus.testing import travelled
from shared.db.pool import Pool
from shared.events.base import Event, uuid7
from shared.events.commands import (
    CommandFinished,
    CommandQueued,
    QueuedTarget,
    TargetState,
)
from shared.events.device_state import ChannelState, DeviceState, EnrollmentState
from shared.events.devices import Ownership, Platform
from shared.events.pushes import PushCertificateChanged
from shared.runtime.clock import FixedClock
from shared.runtime.jobs import Wake
from shared.runtime.testing import RecordedCalls
from shared.sealed import Keyring, LocalCipher, PublicKeys
from tools.embedded.apns import ApnsStandIn

TOKEN = "0a" * 32


@dataclass
class Road:
    """push_notifier's parts on real servers, and a device made up for it."""

    pool: Pool
    clock: FixedClock
    settings: PushSettings
    certificates: Certificates
    sender: Sender
    portal: StandInPortal
    public: PublicKeys
    apns: ApnsStandIn
    cipher: LocalCipher
    keyring: Keyring
    calls: RecordedCalls
    wake: Wake = field(default_factory=Wake)

    async def hear(
        self, *events: Event, service: str = "command_queue", sequence: int | None = None
    ) -> None:
        travelling = travelled(*events, service=service, sequence=sequence)
        await apply(self.pool, "push_notifier", handlers(self.settings, self.wake), travelling)

    async def events(self, kind: type[Event]) -> list[Any]:
        async with self.pool.acquire() as connection:
            waiting = await outbox.read(connection, "push_notifier")
        return [event for event in waiting if isinstance(event, kind)]

    async def topic(self) -> str:
        changed = await self.events(PushCertificateChanged)
        return str(changed[-1].topic)

    async def waiting(self) -> tuple[UUID, UUID]:
        """A new device (TOKEN) and its channel, for which a command waits."""
        device = uuid7()
        channel = await self.enroll(device, TOKEN, self.clock.now())
        await self.queue(device, channel)
        return device, channel

    async def enroll(
        self, device: UUID, token: str, since: datetime, *, state: Any = "enrolled"
    ) -> UUID:
        channel = UUID(int=device.int + 1)
        secret = json.dumps({"token": token, "magic": "m"}).encode()
        await self.hear(
            DeviceState(
                device_id=device,
                platform=Platform.IOS,
                ownership=Ownership.CORPORATE,
                enrollments=[
                    EnrollmentState(
                        enrollment_id=UUID(int=device.int + 2),
                        generation=1,
                        state=state,
                        pins=[],
                        authenticated_at=since,
                        channels=[
                            ChannelState(
                                channel_id=channel,
                                kind="device",
                                open=state == "enrolled",
                                push_topic=await self.topic(),
                                push=self.public.seal(
                                    "push_notifier", secret, purpose="push", device_id=device
                                ),
                                push_updated_at=since,
                            )
                        ],
                    )
                ],
            ),
            service="enrollment",
        )
        return channel

    async def queue(self, device: UUID, channel: UUID, sequence: int | None = None) -> None:
        now = self.clock.now()
        await self.hear(
            CommandQueued(
                command_id=uuid7(),
                kind="raw",
                queued_at=now,
                targets=[QueuedTarget(device_id=device, channel_id=channel)],
            ),
            sequence=sequence,
        )

    async def finish(
        self,
        device: UUID,
        channel: UUID,
        *,
        empty: bool,
        came_after: timedelta | None = None,
        deliveries: int = 1,
        sequence: int | None = None,
    ) -> None:
        """`came_after`: how long from queueing the device took to fetch the command."""
        now = self.clock.now()
        await self.hear(
            CommandFinished(
                device_id=device,
                channel_id=channel,
                command_id=uuid7(),
                kind="raw",
                state=TargetState.ACKNOWLEDGED,
                deliveries=deliveries,
                queued_at=now,
                handed_out_at=None if came_after is None else now + came_after,
                finished_at=now,
                queue_empty=empty,
            ),
            sequence=sequence,
        )

    @asynccontextmanager
    async def push_on_its_way(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
        """Within, the push that was due is with APNs, and the sender knows no answer yet."""
        arrived, answer, push = asyncio.Event(), asyncio.Event(), self.sender._push

        async def slowly(*due: Any) -> Pushed:
            pushed = await push(*due)
            arrived.set()
            await answer.wait()
            return pushed

        with monkeypatch.context() as patch:
            patch.setattr(self.sender, "_push", slowly)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.sender.run())
                await arrived.wait()
                yield
                answer.set()

    def tokens_pushed(self) -> list[str]:
        return [push["token"] for push in self.apns.received if push["token"] != NOBODY]
