"""What a service is to the runtime: a name, settings, routes and a way to build its parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from aiohttp import web

from shared.runtime.clock import Clock
from shared.runtime.jobs import Job
from shared.runtime.pages import Door
from shared.runtime.routes import Route
from shared.runtime.settings import Settings
from shared.runtime.tokens import Signer, Verifier

if TYPE_CHECKING:
    from shared.bus.handlers import Handlers
    from shared.db.pool import Pool
    from shared.runtime.internal import InternalClient
    from shared.sealed import EncryptedColumn, Keyring, LocalCipher, PublicKeys

S = TypeVar("S", bound=Settings)
Role = Literal["http", "consumer", "worker"]
ROLES: tuple[Role, ...] = ("http", "consumer", "worker")
Check = Callable[[], Awaitable[bool]]
"""Whether the service can do its work now; asked by /readyz."""


@dataclass(frozen=True)
class Tokens:
    """`signer` speaks for this service, `verifier` judges what is addressed to it."""

    signer: Signer
    verifier: Verifier


@dataclass(frozen=True)
class Sealing:
    """`keyring` opens what is sealed to this service; `public` seals to any."""

    keyring: Keyring
    public: PublicKeys


@dataclass(frozen=True)
class Context(Generic[S]):
    """What the runtime hands to a service's `build`."""

    name: str
    settings: S
    pool: Pool
    """For people's requests and for jobs."""
    road: Pool
    """For batches of devices and of events: their statements look rows up by key."""
    clock: Clock
    sealing: Sealing
    cipher: LocalCipher
    tokens: Tokens
    internal: InternalClient
    wake_outbox: Callable[[], None]
    """Call after a commit that emitted: the relay looks at once. Cheap."""


@dataclass(frozen=True)
class Parts:
    """What a service built: values for its handlers, event handlers, jobs, readiness checks."""

    values: Mapping[web.AppKey[Any], Any] = field(default_factory=dict)
    handlers: Handlers = field(default_factory=dict)
    jobs: Sequence[Job] = ()
    ready: Sequence[Check] = ()
    door: Door | None = None
    """Who judges the browsers that ask for the service's pages, where it has any."""


Build = Callable[[Context[S]], AbstractAsyncContextManager[Parts]]


@dataclass(frozen=True)
class Service(Generic[S]):
    """One service, as `services/<name>/app.py` declares it."""

    name: str
    summary: str
    _: KW_ONLY
    settings: type[S]
    build: Build[S]
    routes: Sequence[Route]
    jobs_only: bool = False
    """Of its service it runs these jobs and nothing else, and has neither a token-signing key nor
    one to open what is sealed to the service: what it signs, nobody trusts."""
    encrypted: Sequence[EncryptedColumn] = ()
    """What it encrypts for itself, wherever it lies: `muster keys` finds it by this."""
    keys: str = ""
    """Whose folder of local keys it has; empty: the service's own."""
