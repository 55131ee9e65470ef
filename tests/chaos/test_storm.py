"""A short storm: `make chaos` blows the long ones."""

from __future__ import annotations

import pytest

from tests.chaos.storm.faults import KINDS, schedule
from tests.chaos.storm.report import Report
from tests.chaos.storm.stage import Stage
from tests.chaos.storm.storm import Plan, Storm
from tools.embedded.home import Home

SHORT = Plan(seed=565, faults=10, spell=10, devices=12, rebuild=False)


@pytest.mark.slow
@pytest.mark.timeout(600)  # a minute; when nothing comes to rest, five more
async def test_a_short_storm_finds_nothing(muster_home: Home) -> None:
    home = Home.at(muster_home.root / "storm", cache=muster_home.cache)
    async with Stage(home) as stage, Storm.over(stage, SHORT, print) as storm:
        report = await storm.blow()
    assert report.faults + report.missed.total() == SHORT.faults
    assert report.violations == [], report.text()


def test_a_seed_repeats_its_schedule() -> None:
    assert schedule(7, 300) == schedule(7, 300)
    assert schedule(7, 300)[:100] == schedule(7, 100)
    assert schedule(7, 300) != schedule(8, 300)
    assert {fault.kind for fault in schedule(7, 600)} == set(KINDS)


def test_a_report_says_how_to_repeat_it() -> None:
    report = Report(seed=9, plant="no-inbox", violations=["an effect happened twice"])
    assert "make chaos SEED=9 PLANT=no-inbox" in report.text()
    assert "an effect happened twice" in report.text()
    assert "no violation" in Report(seed=9).text()
