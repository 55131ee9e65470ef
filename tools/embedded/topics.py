"""Topics, identities and rights on a broker, from plain data; every call may be repeated.

The services' own clients have no calls for rights, so this uses confluent-kafka's admin client: a
dependency of the set-up, not of any service.
"""

# Its types lie in private modules that `confluent_kafka.admin` re-exports without saying so.
# mypy: disable-error-code="attr-defined"

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from shared.events import registry
from tools.embedded.errors import EmbeddedError

PARTITIONS = 3
SCRAM_ITERATIONS = 4096
CALL_SECONDS = 30
_SHOW_SECONDS = 120
"""What was accepted is shown once the broker has read it from its log: a busy one takes long."""
TOPIC_PREFIX = "muster."


@dataclass(frozen=True)
class TopicPlan:
    """A topic as the registry declares it; `writer` is the one service that may write."""

    name: str
    writer: str
    compacted: bool = False
    retention_ms: int | None = None
    partitions: int = PARTITIONS
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, str]:
        if self.compacted:
            return {"cleanup.policy": "compact", **self.extra}
        kept = {} if self.retention_ms is None else {"retention.ms": str(self.retention_ms)}
        return {"cleanup.policy": "delete", **kept, **self.extra}


@dataclass(frozen=True)
class Login:
    """How to reach a broker; without a user name the broker asks nobody who he is."""

    bootstrap: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def client_settings(self) -> dict[str, Any]:
        settings = {"bootstrap.servers": self.bootstrap, "logger": logging.getLogger(__name__)}
        if self.username is None:
            return settings
        return settings | {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": self.username,
            "sasl.password": self.password,
        }


def declared() -> list[TopicPlan]:
    """Return the topics of the registry."""
    return [
        TopicPlan(topic.name, topic.owner, topic.compacted, topic.retention_ms)
        for topic in registry.TOPICS.values()
    ]


async def provision(
    admin: Login, topics: Sequence[TopicPlan], passwords: Mapping[str, str]
) -> None:
    """Create or correct topics; when the broker knows users, also the services' users and rights.

    Returns once the broker itself sees all of it, so that a service may connect at once.
    """
    await asyncio.to_thread(_provision, admin, topics, passwords)


def _provision(admin: Login, topics: Sequence[TopicPlan], passwords: Mapping[str, str]) -> None:
    client = AdminClient(admin.client_settings())
    _create_topics(client, topics)
    if admin.username is not None:
        _set_passwords(client, passwords)
        _set_rights(client, rights(topics, passwords), passwords)


def _create_topics(client: AdminClient, topics: Sequence[TopicPlan]) -> None:
    new = [
        NewTopic(
            plan.name,
            num_partitions=plan.partitions,
            replication_factor=-1,
            config=plan.settings,
        )
        for plan in topics
    ]
    existing = []
    for name, future in client.create_topics(new, request_timeout=CALL_SECONDS).items():
        if _answer(future, f"create topic {name}", allow=KafkaError.TOPIC_ALREADY_EXISTS) is EXISTS:
            existing.append(name)
    _correct_topics(client, [plan for plan in topics if plan.name in existing])
    names = {plan.name for plan in topics}
    _until(lambda: names <= client.list_topics(timeout=CALL_SECONDS).topics.keys(), "the topics")


def _correct_topics(client: AdminClient, topics: Sequence[TopicPlan]) -> None:
    """Bring the settings of topics that exist up to what the registry says now."""
    if not topics:
        return
    resources = {ConfigResource(ConfigResource.Type.TOPIC, plan.name): plan for plan in topics}
    changed = []
    described = client.describe_configs(list(resources), request_timeout=CALL_SECONDS)
    for resource, future in described.items():
        plan = resources[resource]
        current = _answer(future, f"describe topic {plan.name}")
        wrong = {k: v for k, v in plan.settings.items() if current[k].value != v}
        if wrong:
            entries = [
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in wrong.items()
            ]
            changed.append(
                ConfigResource(ConfigResource.Type.TOPIC, plan.name, incremental_configs=entries)
            )
    if changed:
        for future in client.incremental_alter_configs(changed).values():
            _answer(future, "correct a topic's settings")


def _set_passwords(client: AdminClient, passwords: Mapping[str, str]) -> None:
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, SCRAM_ITERATIONS)
    wanted: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(user, info, password.encode())
        for user, password in passwords.items()
    ]
    for user, future in client.alter_user_scram_credentials(wanted).items():
        _answer(future, f"set the password of {user}")


def rights(topics: Iterable[TopicPlan], services: Collection[str]) -> set[AclBinding]:
    """Return who may do what: write own topics, read all of ours, in groups of one's own name."""
    literal, prefixed = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
    wanted = set()
    for plan in topics:
        for operation in (AclOperation.WRITE, AclOperation.DESCRIBE):
            wanted.add(_allow(plan.writer, ResourceType.TOPIC, plan.name, literal, operation))
    for service in services:
        for operation in (AclOperation.READ, AclOperation.DESCRIBE):
            wanted.add(_allow(service, ResourceType.TOPIC, TOPIC_PREFIX, prefixed, operation))
        wanted.add(
            _allow(service, ResourceType.GROUP, group_of(service), prefixed, AclOperation.READ)
        )
    return wanted


def group_of(service: str) -> str:
    """Return the prefix of a service's consumer groups."""
    return f"muster-{service}"


def _allow(
    service: str, kind: ResourceType, name: str, pattern: ResourcePatternType, what: AclOperation
) -> AclBinding:
    return AclBinding(kind, name, pattern, f"User:{service}", "*", what, AclPermissionType.ALLOW)


def _set_rights(client: AdminClient, wanted: set[AclBinding], services: Collection[str]) -> None:
    """Grant what is missing and take back what our services hold beyond that."""
    present = _rights_of(client, services)
    if missing := wanted - present:
        for future in client.create_acls(list(missing)).values():
            _answer(future, "grant rights")
    if surplus := present - wanted:
        filters = [_filter_of(binding) for binding in surplus]
        for future in client.delete_acls(filters).values():
            _answer(future, "take back rights")
    _until(lambda: _rights_of(client, services) == wanted, "the rights")


# In a filter None stands for "any"; the annotations of the package do not know that.
_NONE: Any = None
_ANY = AclBindingFilter(
    ResourceType.ANY,
    _NONE,
    ResourcePatternType.ANY,
    _NONE,
    _NONE,
    AclOperation.ANY,
    AclPermissionType.ANY,
)


def _rights_of(client: AdminClient, services: Collection[str]) -> set[AclBinding]:
    bindings = _answer(client.describe_acls(_ANY, request_timeout=CALL_SECONDS), "read rights")
    ours = {f"User:{service}" for service in services}
    return {binding for binding in bindings if binding.principal in ours}


def _filter_of(binding: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        binding.restype,
        binding.name,
        binding.resource_pattern_type,
        binding.principal,
        binding.host,
        binding.operation,
        binding.permission_type,
    )


EXISTS = object()


def _answer(future: Future[Any], what: str, *, allow: int | None = None) -> Any:
    try:
        return future.result(timeout=CALL_SECONDS)
    except KafkaException as error:
        if allow is not None and error.args[0].code() == allow:
            return EXISTS
        raise EmbeddedError(f"Kafka refused to {what}: {error.args[0].str()}") from error
    except TimeoutError as error:
        raise EmbeddedError(f"Kafka did not answer when asked to {what}") from error


def _until(seen: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _SHOW_SECONDS
    while not seen():
        if time.monotonic() > deadline:
            raise EmbeddedError(f"Kafka accepted {what} but does not show them")
        time.sleep(0.02)
