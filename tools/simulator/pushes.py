"""How simulated devices hear of pushes: one line stream from the APNs stand-in for all of them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

_FOREVER = aiohttp.ClientTimeout(total=None, sock_connect=10)
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 15.0
Wake = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Address:
    """Where one channel is reached. Tokens of different devices may be equal (apple.md 1.12, 6)."""

    token: bytes
    magic: str
    topic: str


class Mailroom:
    """Hands pushes to the channels they are meant for and counts those that are for none."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._channels: defaultdict[str, dict[Address, Wake]] = defaultdict(dict)

    def register(self, address: Address, wake: Wake) -> None:
        self._channels[address.token.hex()][address] = wake

    def forget(self, address: Address) -> None:
        self._channels[address.token.hex()].pop(address, None)

    def deliver(self, line: bytes) -> None:
        """Take one line of the stream; anything but a push for a known channel is only counted."""
        try:
            push = json.loads(line)
            token, topic = str(push["token"]).lower(), push["topic"]
            magic = push["payload"]["mdm"]
        except (ValueError, TypeError, KeyError):
            self._counts["unreadable"] += 1
            return
        channels = self._channels.get(token)
        if not channels:
            self._counts["unknown token"] += 1
            return
        meant = {address: wake for address, wake in channels.items() if address.magic == magic}
        if not meant:
            self._counts["wrong magic"] += 1
        for address, wake in meant.items():
            self._counts["delivered" if address.topic == topic else "wrong topic"] += 1
            if address.topic == topic:
                wake()


async def listen(session: aiohttp.ClientSession, stand_in: str, mailroom: Mailroom) -> None:
    """Read `{stand_in}/simulator/stream` for ever; a lost stream is opened again."""
    url = stand_in.rstrip("/") + "/simulator/stream"
    wait = _FIRST_WAIT
    while True:
        try:
            async with session.get(url, timeout=_FOREVER) as stream:
                stream.raise_for_status()
                wait = _FIRST_WAIT
                async for line in stream.content:
                    # The stand-in sends empty lines to notice readers that went away.
                    if line.strip() not in (b"", b"{}"):
                        mailroom.deliver(line)
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            pass
        await asyncio.sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT)
