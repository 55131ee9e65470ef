"""The files that the broker reads: one node, broker and controller in one, on loopback."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LOGGING = """\
status=error
rootLogger.level=info
rootLogger.appenderRef.c.ref=c
appender.c.type=Console
appender.c.name=c
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=[%d] %p %m (%c)%n
"""

COMMON = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=CLIENT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENT://127.0.0.1:{client}
listener.security.protocol.map=CONTROLLER:{protocol},CLIENT:{protocol}
inter.broker.listener.name=CLIENT
log.dirs={data}
num.partitions=1
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
min.insync.replicas=1
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=4
# After kill -9 the broker waits until its old registration has run out. Shorter would fence a
# broker that only starves for processor time.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
initial.broker.registration.timeout.ms=60000
"""

# Mechanisms are set per listener: otherwise the controller asks for a SCRAM entry that only it
# could serve, and dies. It listens on loopback for itself alone.
SECURE = """\
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
sasl.mechanism.controller.protocol=PLAIN
listener.name.client.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.client.scram-sha-512.sasl.jaas.config={scram} required \
username="{user}" password="{password}";
listener.name.controller.plain.sasl.jaas.config={plain} required \
username="{user}" password="{password}" user_{user}="{password}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{user};User:{admin}
"""
MODULES = {
    "scram": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "plain": "org.apache.kafka.common.security.plain.PlainLoginModule",
}

BROKER = "broker"
ADMIN = "admin"


@dataclass(frozen=True)
class Ports:
    """Where the broker listens on 127.0.0.1."""

    client: int
    controller: int


def properties(ports: Ports, data: Path, *, broker_password: str | None) -> str:
    """Return server.properties; without a password everybody may do everything (tests only)."""
    text = COMMON.format(
        client=ports.client,
        controller=ports.controller,
        data=data,
        protocol="SASL_PLAINTEXT" if broker_password else "PLAINTEXT",
    )
    if broker_password:
        text += SECURE.format(user=BROKER, admin=ADMIN, password=broker_password, **MODULES)
    return text
