"""One contender that fails stops no other: its logs stay, the table names them, and the end is a failure."""

from __future__ import annotations

import math
import shutil
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

import bench.__main__ as command
from bench.harness import report
from bench.harness.failures import Failures, LoggedError
from bench.harness.measure import Contender, highest_of, median_of, take_turns
from bench.harness.report import Figures, Section, Target, against
from bench.harness.stack import Platform

COLUMNS = ("way", "seconds", "CPU s")


@pytest.fixture
def failures(tmp_path: Path) -> Failures:
    return Failures(tmp_path / "kept")


class Old:
    """A contender that fails in its second round, with logs in a folder that is removed soon after."""

    def __init__(self, state: Path) -> None:
        self.logs = state / "logs"
        self.rounds = 0

    def run(self) -> float:
        self.rounds += 1
        if self.rounds == 1:
            return 9.0
        self.logs.mkdir(parents=True)
        (self.logs / "scheduler.log").write_text("why it failed")
        raise LoggedError("old_9: a task failed", self.logs)


def test_the_others_take_all_their_turns_and_the_one_that_failed_no_further(failures: Failures, tmp_path: Path) -> None:
    seconds = iter([3.0, 1.0, 2.0])
    old = Old(tmp_path / "state")
    turns = take_turns([Contender("old", old.run), Contender("ours", lambda: next(seconds))], 3, failures)
    assert turns.runs == {"ours": [3.0, 1.0, 2.0]}
    assert [failure.name for failure in turns.failed] == ["old"]
    assert old.rounds == 2
    assert failures.all == turns.failed
    assert median_of(turns.runs, float) == {"ours": 2.0}
    assert highest_of(turns.runs, float) == {"ours": 3.0}
    assert math.isnan(median_of(turns.runs, float)["old"])


def test_reason_and_logs_outlive_the_stack(failures: Failures, tmp_path: Path) -> None:
    turns = take_turns([Contender("old", Old(tmp_path / "state").run)], 2, failures)
    shutil.rmtree(tmp_path / "state")
    [failure] = turns.failed
    assert "old_9: a task failed" in failure.log.read_text()
    assert "Traceback" in failure.log.read_text()
    assert (failure.log.parent / "logs" / "scheduler.log").read_text() == "why it failed"
    assert failure.line(len(COLUMNS)) == ("old", f"failed, see {failure.log}", "")


def test_two_failures_do_not_share_a_folder(failures: Failures) -> None:
    logs = {failures.keep(name, RuntimeError(name)).log for name in ("one", "two")}
    assert len({log.parent for log in logs}) == 2


def test_logs_are_kept_in_the_ignored_folder_of_the_checkout_and_named_from_there() -> None:
    failures = Failures.of_run(datetime(2000, 1, 1, 12, 30, tzinfo=UTC))
    try:
        assert (
            str(failures.keep("old", RuntimeError("no")).log) == ".state/bench-failures/2000-01-01T123000/01/error.txt"
        )
    finally:
        shutil.rmtree(failures.folder)


def test_a_target_whose_rival_failed_is_not_met() -> None:
    for at_least in (True, False):
        [line] = against([Target("times as fast", math.nan, 5, at_least=at_least)]).lines
        assert line[2:] == ("failed", "no")


@pytest.fixture
def bench_command(failures: Failures, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """``make bench`` without a stack: sections that only pretend to measure; returns the names that were written."""
    written: list[str] = []

    @contextmanager
    def running(failures: Failures):
        yield Platform(None, failures)

    def contended(platform: Platform, rounds: int, _: Path) -> Section:
        contenders = [Contender("old", Old(tmp_path / "state").run), Contender("ours", lambda: 1.0)]
        turns = take_turns(contenders, rounds, platform.failures)
        lines = [("ours", "1.00", "1.00"), *(failure.line(len(COLUMNS)) for failure in turns.failed)]
        return Section("contended", "Contended", [Figures(COLUMNS, lines)], "in turns")

    def broken(*_: object) -> Section:
        raise RuntimeError("nothing works")

    def fine(*_: object) -> Section:
        return Section("fine", "Fine", [], "not at all")

    sections = {"contended": contended, "broken": broken, "fine": fine}
    monkeypatch.setattr(command, "SECTIONS", sections)
    monkeypatch.setattr(command, "running", running)
    monkeypatch.setattr(command.Failures, "of_run", lambda _: failures)
    monkeypatch.setattr(command, "silence_airflow", lambda: None)
    monkeypatch.setattr(report, "write", lambda section, _: written.append(section.name))
    return written


def test_everything_else_is_measured_and_the_end_names_what_failed(
    bench_command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench"])
    monkeypatch.setenv("COLUMNS", "400")
    assert command.main() == 1
    assert bench_command == ["contended", "fine"]
    shown = capsys.readouterr()
    assert "failed, see" in shown.out
    assert [line.split(" failed, see ")[0] for line in shown.err.splitlines() if " failed, see " in line] == [
        "old",
        "section broken",
    ]


def test_a_run_in_which_nothing_fails_ends_well(bench_command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "fine"])
    assert command.main() == 0
    assert bench_command == ["fine"]
