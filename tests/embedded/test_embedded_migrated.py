from __future__ import annotations

import asyncpg
import pytest

from shared.events import registry
from tools.embedded.testing import MakeDatabase


@pytest.mark.parametrize("service", registry.SERVICES)
async def test_a_made_database_is_migrated(make_database: MakeDatabase, service: str) -> None:
    connection = await asyncpg.connect(await make_database(service))
    tables = await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    )
    await connection.close()
    assert "outbox" in {row["tablename"] for row in tables}
