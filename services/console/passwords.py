"""Passwords: argon2id, checked in a thread, for unknown accounts too."""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shared.runtime.problems import Problem

SHORTEST, LONGEST = 12, 200
_AT_ONCE = 2
"""Each takes 64 MiB while it lasts."""
# RFC 9106, the second recommended choice: 64 MiB, three passes, four lanes.
_HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$bXVzdGVyLW5vYm9keS4uLg$"
_NOBODY += "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""A hash of no password, of the same cost."""


class Passwords:
    """Makes and checks hashes; few at once, so that guessing cannot fill the memory."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def hashed(self, password: str) -> str:
        async with self._turns:
            return await asyncio.to_thread(_HASHER.hash, password)

    async def is_right(self, password: str, kept: str | None) -> bool:
        """Whether it is the one; the same work when there is none to compare with."""
        async with self._turns:
            right = await asyncio.to_thread(_verify, kept or _NOBODY, password)
        return right and kept is not None

    @staticmethod
    def is_outdated(kept: str) -> bool:
        """Whether the hash was made with other parameters than those of now."""
        return _HASHER.check_needs_rehash(kept)


def _verify(kept: str, password: str) -> bool:
    try:
        return _HASHER.verify(kept, password)
    except (VerificationError, InvalidHashError):
        return False


def check(password: str, *about: str) -> None:
    """Refuse what is easily guessed; length is what counts, not kinds of characters."""
    if not SHORTEST <= len(password) <= LONGEST:
        detail = f"Choose a password of {SHORTEST} to {LONGEST} characters; a sentence is good."
        raise Problem(422, "password_weak", detail)
    low = password.casefold()
    if len(set(low)) < SHORTEST // 2 or any(low in (a.casefold(), a.casefold() * 2) for a in about):
        detail = "This password is too easy to guess. A sentence that nobody else says is good."
        raise Problem(422, "password_weak", detail)
