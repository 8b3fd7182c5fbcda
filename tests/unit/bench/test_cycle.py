"""What the two ways move in the turns that are measured."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.harness.failures import Failures
from bench.sections.cycle import Cycles

QUARTER = timedelta(minutes=15)


class Market:
    quarters = 0

    def trade(self) -> None:
        self.quarters += 1

    def newest(self) -> datetime:
        return datetime(2026, 3, 4, tzinfo=UTC) + self.quarters * QUARTER


@pytest.mark.parametrize("begun", [0, 4])
def test_the_old_way_moves_a_quarter_of_an_hour_in_each_measured_turn_as_ours_does(tmp_path: Path, begun: int) -> None:
    def run(name: str, _dags: object, _time: object, conf: dict[str, int]) -> Any:
        window = timedelta(microseconds=conf["high"] - conf["low"]) if conf else QUARTER
        return SimpleNamespace(committed=name, window=window)

    market, rested = Market(), []
    market.quarters = begun
    cycles = Cycles(SimpleNamespace(run=run), market, 9)  # type: ignore[arg-type]
    turns = cycles.take_turns(3, Failures(tmp_path), lambda: rested.append(market.quarters))
    assert turns.failed == []
    assert [[each.window for each in runs] for runs in turns.runs.values()] == [[QUARTER] * 3] * 2
    assert rested == [begun + 1]
