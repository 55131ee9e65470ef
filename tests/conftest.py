"""Real servers for every test: one PostgreSQL and one Kafka a pytest run, started only when a test
asks.

They live under `.muster/test/<pid>/` on ports of their own, and are gone when the run ends, also
when it failed; what a killed run left behind is swept away by the next. `MUSTER_TEST_POSTGRES` (a
superuser's dsn) and `MUSTER_TEST_KAFKA` (host:port without authentication) name outside servers to
use instead.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from hypothesis import HealthCheck, settings

from tests.collector import Collector, collecting
from tools.embedded import testing
from tools.embedded.cluster import Cluster
from tools.embedded.home import Home
from tools.embedded.postgres import Postgres

REPOSITORY = Path(__file__).resolve().parent.parent

# Property tests share two cores with everything else: they are counted, not timed.
settings.register_profile("muster", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("muster")


@pytest.fixture(scope="session")
def muster_home() -> Iterator[Home]:
    """The folder of this pytest run: state, logs and secrets of the servers that it starts."""
    with testing.home(REPOSITORY / ".muster") as home:
        yield home


@pytest.fixture(scope="session")
async def postgres_admin(muster_home: Home) -> AsyncIterator[str]:
    """The superuser's dsn of a quick PostgreSQL (every local user is let in, the disk is not
    waited for).
    """
    if outside := os.environ.get("MUSTER_TEST_POSTGRES"):
        yield outside
        return
    async with testing.running(
        Postgres(muster_home, muster_home.ports(["postgres"])["postgres"], for_tests=True)
    ) as server:
        yield server.admin_dsn


@pytest.fixture(scope="session")
async def database_templates(postgres_admin: str) -> AsyncIterator[testing.Databases]:
    """One migrated template a service, made when first asked for."""
    templates = testing.Databases(postgres_admin)
    yield templates
    await templates.drop_all()


@pytest.fixture
async def make_database(
    database_templates: testing.Databases,
) -> AsyncIterator[testing.MakeDatabase]:
    """`await make_database("inventory")` → dsn of a fresh, migrated database, as that service's
    own role.
    """
    async with database_templates.lent() as make:
        yield make


@pytest.fixture
async def make_empty_database(
    database_templates: testing.Databases,
) -> AsyncIterator[testing.MakeDatabase]:
    """Like `make_database`, but with nothing in the schema: for tests of migrations themselves."""
    async with database_templates.lent(migrated=False) as make:
        yield make


@pytest.fixture(scope="session")
async def kafka_bootstrap(muster_home: Home) -> AsyncIterator[str]:
    """The address of a broker where everybody may do everything."""
    if outside := os.environ.get("MUSTER_TEST_KAFKA"):
        yield outside
        return
    async with testing.running(testing.broker(muster_home, for_tests=True)) as server:
        yield server.bootstrap


@pytest.fixture(scope="session")
def make_topic(kafka_bootstrap: str) -> testing.MakeTopic:
    """`await make_topic()` → the name of a new topic; `testing.Topics.make` lists its options."""
    return testing.Topics(kafka_bootstrap).make


@pytest.fixture(scope="session")
async def secure_postgres(muster_home: Home) -> AsyncIterator[testing.SecurePostgres]:
    """A PostgreSQL as `make up` runs it: scram, fsync on, every service's role and schema."""
    async with testing.secure_postgres(muster_home) as server:
        yield server


@pytest.fixture(scope="session")
async def secure_kafka(muster_home: Home) -> AsyncIterator[testing.SecureKafka]:
    """A broker as `make up` runs it: users, rights and topics from the registry."""
    async with testing.secure_kafka(muster_home) as server:
        yield server


@pytest.fixture(scope="session")
async def collector() -> AsyncIterator[Collector]:
    """Where the cluster sends traces; only those are recorded whose request asks for it."""
    async with collecting() as running:
        yield running


@pytest.fixture(scope="session")
async def cluster(muster_home: Home, collector: Collector) -> AsyncIterator[Cluster]:
    """All of Muster as on Kubernetes: each service a process, on servers as `make up` runs them."""
    home = Home.at(muster_home.root / "cluster", cache=muster_home.cache)
    settings = {
        "MUSTER_LOG_LEVEL": "WARNING",
        "MUSTER_OTLP_ENDPOINT": collector.endpoint,
        "MUSTER_TRACE_SHARE": "0",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    async with Cluster(home, settings=settings) as running:
        yield running


@pytest.fixture(scope="session")
async def people(cluster: Cluster) -> AsyncIterator[aiohttp.ClientSession]:
    """A session for requests of people; devices may share it."""
    async with cluster.session() as session:
        yield session
