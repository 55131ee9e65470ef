"""Step-up: what is dangerous asks again who is there, for exactly the request that is made.

The proof is of a digest of method, path and content: a page that shows one thing cannot have
another approved, and a stolen cookie alone does nothing that cannot be undone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from services.console.people import Person
from services.console.sessions import Sessions
from services.console.signing_in import SigningIn
from services.console.store import step_ups as store
from services.console.throttling import Throttle
from shared.db.pool import Connection, Pool, transaction
from shared.runtime import auditing
from shared.runtime.clock import Clock
from shared.runtime.problems import Problem

LIFETIME = timedelta(minutes=2)
CODE_FIELD = "step_up_code"
"""Of a form: a code that comes with what it is for."""
OWN = "session.own"
_SIZE = 32


def digest_of(method: str, path: str, content: Iterable[tuple[str, str]] | bytes) -> str:
    """Of a request: fields of a form in their order, or the bytes of another body."""
    digest = hashlib.sha256(b"muster step-up 1")
    parts = [method.encode(), path.encode()]
    if isinstance(content, bytes):
        parts.append(content)
    else:
        parts += [text.encode() for pair in content for text in pair]
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


class StepUp:
    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        sessions: Sessions,
        signing_in: SigningIn,
        throttle: Throttle,
    ) -> None:
        self._pool, self._clock, self._sessions = pool, clock, sessions
        self._signing_in, self._throttle = signing_in, throttle

    async def is_proven(self, person: Person, digest: str) -> bool:
        """Whether this request was proven within two minutes; asked once, it is spent."""
        after = self._clock.now() - LIFETIME
        return await store.spend(self._pool, person.session_id, _bytes(digest), after)

    async def ways(self, person: Person) -> dict[str, bool]:
        """What this person can prove it with."""
        factors = await self._signing_in.factors(person.account_id)
        return {"code": factors.code, "key": bool(factors.keys)}

    async def by_code(self, person: Person, digest: str, code: str) -> str:
        """Prove it by a code; the session's new secret."""
        what, source = f"factor:{person.account_id}", person.caller.source
        await self._throttle.charge(what, source)
        async with transaction(self._pool) as tx:
            right = await self._signing_in.codes.spend(tx, person.account_id, code)
            secret = await self._proven(tx, person, digest, "code") if right else None
        if secret is None:
            raise Problem(403, "code_wrong", "The code is wrong, or was used. Wait for the next.")
        await self._throttle.succeeded(what, source)
        return secret

    async def key_options(self, person: Person, digest: str) -> dict[str, Any]:
        keys = self._signing_in.keys
        return await keys.assertion(person.session_id, person.account_id, _purpose(digest))

    async def by_key(self, person: Person, digest: str, answer: Mapping[str, Any]) -> str:
        """Prove it by a WebAuthn key, whose challenge was given out for this digest."""
        keys = self._signing_in.keys
        async with transaction(self._pool) as tx:
            await keys.check(tx, person.session_id, person.account_id, _purpose(digest), answer)
            return await self._proven(tx, person, digest, "key")

    async def _proven(self, tx: Connection, person: Person, digest: str, by: str) -> str:
        await store.prove(tx, person.session_id, _bytes(digest), self._clock.now())
        await auditing.record(
            tx, person.caller, OWN, "session.step_up", person.via, after={"by": by}
        )
        return await self._sessions.renew(tx, person.session_id)


def _bytes(digest: str) -> bytes:
    try:
        value = bytes.fromhex(digest)
    except ValueError:
        value = b""
    if len(value) != _SIZE:
        raise Problem(400, "digest_invalid", "This is no digest of a request.")
    return value


def _purpose(digest: str) -> str:
    return f"step-up:{_bytes(digest).hex()}"
