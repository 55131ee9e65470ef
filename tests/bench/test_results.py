"""The bench's own arithmetic: what is counted to whom, medians, spreads, ratios, verdicts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tools.bench import compare, connections, cpu, instructions, ratios, results
from tools.bench.driver import Measured, together
from tools.bench.meter import Ledger, Spent, _fill, _Look, is_calm
from tools.bench.results import Line, Summary


def look(**more: Any) -> _Look:
    values: dict[str, Any] = {
        "at": 0.0,
        "processes": {},
        "postgres": 0.0,
        "backends": {},
        "owners": {},
        "wal": 0,
        "busy": 0.0,
        "stolen": 0.0,
    }
    return _Look(**(values | more))


def test_backends_are_counted_with_their_clients_and_strays_with_the_work() -> None:
    ledger = Ledger({"http": 1}, {"relay": 2}, 3)
    owners = {10: "http", 11: "relay", 12: "bench", 13: "relay"}
    before = look(
        at=5.0, processes={"http": 1.0, "relay": 2.0}, postgres=10.0, owners=owners, wal=1000,
        backends={10: 1.0, 11: 1.0, 12: 0.5}, busy=100.0, stolen=1.0,
    )  # fmt: skip
    after = look(
        at=7.0, processes={"http": 2.5, "relay": 2.25}, postgres=13.0, owners=owners, wal=1800,
        backends={10: 2.0, 11: 1.25, 12: 0.75, 13: 0.5}, busy=103.5, stolen=1.2,
    )  # fmt: skip
    spent = Spent()
    _fill(spent, ledger, before, after)
    # Of PostgreSQL's 3 s, 0.25 + 0.25 + 0.5 (a new backend) were for others; checkpoints and the
    # like, which belong to nobody, stay counted.
    assert spent.counted == {"http": 1.5, "postgres": 2.0}
    assert spent.apart == {"relay": 0.25, "postgres for these": 1.0}
    assert spent.cpu_seconds == 3.5
    assert (spent.seconds, spent.wal_bytes) == (2.0, 800)
    # 3.5 s of CPU in 2 s of time, none of it unknown: the rest is at 0, not below.
    assert spent.rest_cores(0.0) == 0.0
    spent.busy_seconds = 6.75
    assert spent.rest_cores(0.5) == pytest.approx((6.75 - 3.5 - 1.25 - 0.5) / 2)


def test_a_line_divides_by_units() -> None:
    spent = Spent(2.0, {"http": 1.0, "postgres": 0.5}, {"relay": 0.1}, 5000, 3.0, 0.0)
    measured = Measured(
        2.0, 0.2, Counter({200: 990, 503: 10}), array("d", [0.001] * 990 + [0.1] * 10)
    )
    line = Line("drain", "muster", "commands", 500, spent, measured).json()
    assert line["per_second"] == 250.0
    assert line["cpu_us"] == 3000.0
    assert line["cpu_us_by"] == {"http": 2000.0, "postgres": 1000.0}
    assert line["apart_us_by"] == {"relay": 200.0}
    assert line["wal_bytes"] == 10.0
    assert line["generator_us"] == 200.0
    assert (line["p50_ms"], line["p99_ms"]) == (1.0, 100.0)
    assert line["statuses"] == {"200": 990, "503": 10}
    assert line["rest_of_machine_cores"] == 0.6
    assert "instructions" not in line


def test_runs_after_each_other_are_added_up() -> None:
    one = Measured(1.0, 0.1, Counter({200: 2}), array("d", [0.1, 0.2]))
    other = Measured(2.0, 0.3, Counter({200: 1, 0: 1}), array("d", [0.3, 0.4]), unfinished="why")
    whole = together([one, other])
    assert (whole.seconds, whole.requests, whole.wrong) == (3.0, 4, 1)
    assert whole.cpu_seconds == pytest.approx(0.4)
    assert whole.unfinished == "why"


def lines(
    system: str, cpu_us: list[float], rates: list[float], **more: Any
) -> list[dict[str, Any]]:
    return [
        {"scenario": "poll", "system": system, "cpu_us": one, "per_second": rate, "p50_ms": 1.0,
         "p99_ms": 2.0, "wal_bytes": 0.0} | more
        for one, rate in zip(cpu_us, rates, strict=True)
    ]  # fmt: skip


def test_spread_is_half_the_distance_of_the_extremes() -> None:
    summary = Summary.of([100.0, 110.0, 90.0])
    assert (summary.median, summary.runs) == (100.0, 3)
    assert summary.spread == pytest.approx(0.1)
    assert Summary.of([0.0]).spread == 0.0


def test_ratios_pair_the_rounds_that_followed_each_other() -> None:
    # The machine got slower by half in the second round, for both.
    mine, others = lines("muster", [10, 15], [600, 400]), lines("nanomdm", [100, 150], [100, 66.7])
    table = ratios.table([*mine, *others], mine="muster", other="nanomdm")
    assert table[0][0] == "work"
    assert table[1][0] == "poll"
    assert table[1][3] == "0.1 (0.1–0.1)"
    assert table[1][6].startswith("6 (")
    assert table[1][-2:] == ["", ""]
    assert ratios.markdown(table).splitlines()[1] == "|---" * 11 + "|"
    with pytest.raises(ValueError, match="shorter"):
        ratios.Ratio.of([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("wanted", "reached"),
    [
        (ratios.Wanted(0.1, 6.0), "yes"),
        (ratios.Wanted(0.09, 6.0), "no"),
        (ratios.Wanted(0.1, 6.1), "no"),
        (ratios.Wanted(0.1), "yes"),
    ],
)
def test_what_was_wanted_stands_beside_what_was_reached(
    wanted: ratios.Wanted, reached: str
) -> None:
    mine, others = lines("muster", [10], [600]), lines("nanomdm", [100], [100])
    rows = ratios.table([*mine, *others], mine="muster", other="nanomdm", wanted={"poll": wanted})
    assert rows[1][-1] == reached
    assert rows[1][-2].startswith("CPU ≤ 0.")


def test_errors_stand_beside_the_name() -> None:
    mine = lines("muster", [10], [600], not_handed_out=3)
    table = ratios.table([*mine, *lines("nanomdm", [100], [100])], mine="muster", other="nanomdm")
    assert table[1][0] == "poll (errors!)"


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([100.0, 101, 102], [80.0, 81, 82], "better"),
        ([100.0, 101, 102], [120.0, 121, 122], "worse"),
        ([100.0, 101, 102], [103.0, 103, 103], "same"),  # below what anybody should look for
        ([80.0, 101, 120], [90.0, 115, 125], "same"),  # larger, but the runs differ as much
        ([100.0], [108.0], "same"),  # a single run shows less
        ([100.0], [112.0], "worse"),
    ],
)
def test_verdicts_take_the_spread_into_account(
    before: list[float], after: list[float], verdict: str
) -> None:
    rate = [1.0] * len(before), [1.0] * len(after)
    found = compare.changes(lines("muster", before, rate[0]), lines("muster", after, rate[1]))
    by_value = {change.value: change.verdict for change in found}
    assert by_value["cpu_us"] == verdict
    assert by_value["per_second"] == "same"


def test_more_a_second_is_better() -> None:
    found = compare.changes(lines("muster", [1.0], [100.0]), lines("muster", [1.0], [200.0]))
    assert {change.value: change.verdict for change in found}["per_second"] == "better"


def test_bench_compare_tells_what_is_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, new = tmp_path / "base.jsonl", tmp_path / "new.jsonl"
    machine = {"machine": {"cpu": "A", "cores": 2}}
    for path, value, cpu_name in ((base, 10.0, "A"), (new, 20.0, "B")):
        told = {"machine": machine["machine"] | {"cpu": cpu_name}}
        written = [told, *lines("muster", [value] * 3, [100.0] * 3)]
        path.write_text("".join(json.dumps(line) + "\n" for line in written))
    monkeypatch.setattr(sys, "argv", ["compare", str(base), str(new)])
    assert compare.main() == 1
    said = capsys.readouterr()
    assert "cpu: A before, B now" in said.err
    row = next(line for line in said.out.splitlines() if "cpu_us" in line)
    assert "2.00" in row
    assert row.endswith("worse")
    new.write_text("{nonsense\n")
    assert compare.main() == 2
    assert "line 1" in capsys.readouterr().err


def test_cpu_of_a_process_and_of_its_ended_children() -> None:
    burn = "import time\nend = time.process_time() + 0.1\nwhile time.process_time() < end: pass"
    code = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\n{burn}\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code + "\ninput()"], stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        process.stdin.write("on\n")  # read once both have burnt their time
        process.stdin.flush()
        while cpu.cpu_seconds(process.pid) < 0.1:
            time.sleep(0.01)
        assert cpu.ended_children_seconds(process.pid) >= 0.08
        assert cpu.family_cpu_seconds(process.pid) >= 0.18
        process.stdin.write("end\n")
    assert cpu.cpu_seconds(process.pid) == 0.0


def test_steal_and_idle_are_not_busy() -> None:
    line = "cpu  100 20 30 4000 500 6 7 80 9 10"
    tick = os.sysconf("SC_CLK_TCK")
    busy, stolen = cpu.busy_and_stolen(line)
    assert busy == pytest.approx((100 + 20 + 30 + 6 + 7) / tick)
    assert stolen == pytest.approx(80 / tick)


def test_who_holds_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            port = client.getsockname()[1]
            assert connections.owners({7: port, 8: 1}, {"we": [os.getpid()]}) == {7: "we"}
            assert connections.owners({7: port}, {"nobody": [2**22]}) == {}


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ("123456,,instructions:u,1000,100.00,,\n", 123456),
        ("<not supported>,,instructions:u,0,100.00,,\n", None),
        ("Error: no permission\n", None),
    ],
)
def test_what_perf_says(said: str, count: int | None) -> None:
    assert instructions.read(said) == count


def test_an_overview_has_a_row_a_scenario() -> None:
    rows = results.overview([{"machine": {}}, *lines("muster", [10, 12, 14], [100, 100, 100])])
    assert len(rows) == 2
    assert rows[1][:3] == ["poll muster", "12 ±17%", "100 ±0%"]
    assert len(results.overview(lines("muster", [10], [100]))) == 2
    assert len(results.overview([{"scenario": "soak", "round": 1}])) == 1


@pytest.mark.parametrize(
    ("before", "now", "calm"),
    [
        (float("inf"), 0.1, True),
        (float("inf"), 0.4, False),
        (0.4, 0.38, True),  # they idle, and that costs so much here
        (0.9, 0.45, False),  # still on the way down
        (1.5, 1.5, False),  # steady, because they are busy
    ],
)
def test_what_counts_as_calm(before: float, now: float, calm: bool) -> None:
    assert is_calm(before, now) is calm
