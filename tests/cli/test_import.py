"""`muster import`: chunks on their way, a busy service, an interruption, the words at the end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.cli import imports
from tools.cli.errors import CliError, Refused
from tools.cli.imports import Tally, progressed
from tools.cli.main import main


class Service:
    """Stands in for enrollment: enrolls every row, but refuses those called `bad`."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.busy = 0
        self.broken_after: int | None = None
        self._lock = threading.Lock()

    def call(self, _service: str, _method: str, path: str, body: dict[str, Any]) -> Any:
        assert path == "/imports"
        with self._lock:
            if self.busy:
                self.busy -= 1
                raise Refused(503, "Other imports are running. (import_busy, 503)")
            if self.broken_after is not None and len(self.calls) >= self.broken_after:
                raise CliError("the server does not answer")
            self.calls.append(body)
        return {"rows": [self._row(place, row) for place, row in enumerate(body["rows"])]}

    def _row(self, place: int, row: dict[str, Any]) -> dict[str, Any]:
        bad = row["udid"] == "bad"
        return {
            "row": place,
            "outcome": "refused" if bad else "enrolled",
            "code": "hardware_known" if bad else None,
            "detail": "known hardware" if bad else None,
            "device_id": None,
            "warnings": [{"code": "topic_unserved", "detail": "not woken"}] if bad else [],
        }


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    stand_in = Service()
    monkeypatch.setattr(imports, "Client", lambda: stand_in)
    monkeypatch.setattr(imports, "_PAUSE", 0.0)
    return stand_in


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    def write(*udids: str) -> str:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps({"udid": udid}) + "\n" for udid in udids))
        return str(path)

    return write


def test_every_row_goes_once_and_the_report_is_in_order(
    service: Service, file: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    udids = [str(n) for n in range(95)]
    report = tmp_path / "report.jsonl"
    words = ["import", file(*udids), "--chunk", "10", "--report", str(report), "--no-refresh"]
    service.busy = 3
    assert main(words) == 0
    sent = [row["udid"] for call in service.calls for row in call["rows"]]
    assert sorted(sent, key=int) == udids
    assert {call["refresh"] for call in service.calls} == {False}
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert lines == [{"line": n, "outcome": "enrolled"} for n in range(1, 96)]
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split() == ["enrolled", "95", "-", "-"]
    assert "100%, 95 rows" in err


def test_refused_rows_are_counted_by_reason_and_end_with_1(
    service: Service, file: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", file("a", *["bad"] * 7, "b"), "--dry-run"]) == 1
    assert service.calls[0]["dry_run"] is True
    out, err = capsys.readouterr()
    assert "refused: hardware_known  7     known hardware  2, 3, 4, 5, 6, …" in out
    assert "warning: topic_unserved" in out
    assert "Nothing was changed" in err


def test_an_interrupted_import_says_that_it_can_be_run_again(
    service: Service, file: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    service.broken_after = 1
    assert main(["import", file(*map(str, range(30))), "--chunk", "10"]) == 1
    assert "Run it again: what is there already stays." in capsys.readouterr().err


@pytest.mark.parametrize("words", [["nowhere.jsonl"], ["rows.jsonl", "--chunk", "501"]])
def test_a_wrong_word_is_a_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", *words]) == 1
    assert capsys.readouterr().err.startswith("muster: ")


def test_the_bar_tells_how_long_it_takes() -> None:
    tally = Tally()
    tally.outcomes.update(enrolled=11_990, refused=10)
    assert progressed(tally, 50, 200, 10.0) == (
        "█████░░░░░░░░░░░░░░░  25%, 12,000 rows, 10 refused, 30 s left"
    )
    assert progressed(tally, 50, None, 10.0) == "12,000 rows, 10 refused"
