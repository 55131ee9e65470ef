"""`make chaos`: a storm of faults from a seed, with what it found.

make chaos                          # 150 faults, about twenty minutes
make chaos SEED=7 FAULTS=1000       # the same schedule again, longer
make chaos PLANT=no-inbox           # with a bug planted: the storm must find it
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import sys
from pathlib import Path

from tests.chaos.storm.faults import KINDS
from tests.chaos.storm.plants import PLANTS
from tests.chaos.storm.report import Report
from tests.chaos.storm.stage import Stage
from tests.chaos.storm.storm import Plan, Storm
from tools.embedded import testing
from tools.embedded.home import Home

REPOSITORY = Path(__file__).resolve().parents[3]


def say(line: str) -> None:
    print(line, flush=True)


async def blow(plan: Plan, plant: str, home: Home) -> Report:
    async with (
        Stage(Home.at(home.root / "storm", cache=home.cache), plant=plant) as stage,
        Storm.over(stage, plan, say) as storm,
    ):
        report = await storm.blow()
        if report.violations:
            kept = REPOSITORY / ".muster" / "chaos" / f"seed-{plan.seed}"
            shutil.copytree(stage.home.logs, kept, dirs_exist_ok=True)
            say(f"the services' and servers' logs are kept in {kept.relative_to(REPOSITORY)}")
        return report


def main() -> int:
    parser = argparse.ArgumentParser(description="A storm of faults over a whole Muster.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--faults", type=int, default=150)
    parser.add_argument("--spell", type=int, default=25, help="faults between two calms")
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--only", action="append", choices=list(KINDS), default=[], help="kinds")
    parser.add_argument("--plant", choices=["", *PLANTS], default="")
    given = parser.parse_args()
    logging.disable(logging.ERROR)  # our own clients of the broker complain of every fault
    plan = Plan(given.seed, given.faults, given.spell, given.devices, only=given.only)
    say(f"seed {plan.seed}: again with make chaos SEED={plan.seed} FAULTS={plan.faults}")
    with testing.home(REPOSITORY / ".muster") as home:
        report = asyncio.run(blow(plan, given.plant, home))
    say(report.text())
    if given.plant:
        say("found" if report.violations else "NOT FOUND")
        return 0 if report.violations else 1
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
