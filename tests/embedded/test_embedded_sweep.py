from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tools.embedded import testing
from tools.embedded.home import Home
from tools.embedded.processes import is_alive

RUN_AND_DIE = """
import asyncio, os, sys
from pathlib import Path
from tools.embedded import testing
from tools.embedded.postgres import Postgres

async def main():
    with testing.home(Path(sys.argv[1])) as home:
        kafka = testing.broker(home, for_tests=True)
        postgres = Postgres(home, home.ports(["postgres"])["postgres"], for_tests=True)
        await asyncio.gather(kafka.start(), postgres.start())
        print(kafka.pid, postgres.pid, flush=True)
        os.kill(os.getpid(), 9)

asyncio.run(main())
"""


def test_the_next_run_sweeps_up_after_a_killed_one(own_home: Home) -> None:
    muster = own_home.root / "muster"
    muster.mkdir()
    (muster / "cache").symlink_to(own_home.cache)
    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_DIE, str(muster)],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == -9, done.stderr
    servers = [int(pid) for pid in done.stdout.split()]
    assert len(servers) == 2
    assert all(is_alive(pid) for pid in servers)
    with testing.home(muster):
        while any(is_alive(pid) for pid in servers):
            time.sleep(0.05)
        assert [folder.name for folder in (muster / "test").iterdir()] == [str(os.getpid())]
    assert list((muster / "test").iterdir()) == []
