"""The bars of a run."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from k2_offload.cli.dag_runner import LayerEnded, WindowMoved
from k2_offload.cli.run_progress import RunProgress

LOW, HIGH = "2026-03-04T12:00:00.000000Z", "2026-03-04T12:15:00.000000Z"


def window(state, rows=1234, table="trades"):
    return WindowMoved(table, state, LOW, HIGH, rows, 1.5 if state == "committed" else None)


@pytest.fixture
def bars():
    return RunProgress(Console(file=io.StringIO(), force_terminal=True), ["bronze", "silver"])


def test_each_table_has_a_bar_that_is_full_once_its_window_is_committed(bars):
    assert bars.lines == [("bronze: loading Airflow", False, "")]
    bars.show(window("open"))
    assert bars.lines == [("bronze: moving", False, ""), ("  trades", False, "moving 1,234 rows")]
    bars.show(window("committed"))
    assert bars.lines[1] == ("  trades", True, "moved 1,234 rows in 1.5 s")
    bars.show(LayerEnded("bronze", "success", 2.0))
    assert bars.lines == [("silver: planning", False, ""), ("  trades", True, "moved 1,234 rows in 1.5 s")]


def test_a_table_that_did_not_move_has_no_bar_once_its_layer_has_ended(bars):
    bars.show(window("open"))
    bars.show(LayerEnded("bronze", "failed", 2.0))
    assert bars.lines == [("silver: planning", False, "")]
    bars.show(window("open", table="candles"))
    bars.show(window("committed", table="candles"))
    bars.show(LayerEnded("silver", "success", 2.0))
    assert bars.lines[0] == ("ending", True, "")


def test_another_window_of_a_table_begins_anew(bars):
    bars.show(window("committed"))
    bars.show(window("open", rows=7))
    assert bars.lines[1] == ("  trades", False, "moving 7 rows")


def test_a_window_that_is_seen_after_the_last_layer_has_ended_is_shown(bars):
    for layer in ("bronze", "silver"):
        bars.show(LayerEnded(layer, "success", 2.0))
    bars.show(window("open"))
    assert bars.lines == [("ending", True, ""), ("  trades", False, "moving 1,234 rows")]


def test_a_table_that_leaves_its_history_out_has_a_full_bar(bars):
    bars.show(window("left_out"))
    assert bars.lines[1] == ("  trades", True, "left out 1,234 rows")
