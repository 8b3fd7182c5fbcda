"""Where bars stand."""

from __future__ import annotations

from dataclasses import replace

from k2_offload.work.figures import HEIGHT, WIDTH, rows_over_time, seconds_over_time, sparkline
from tests.unit.k2_offload.web.pages import DAY, MINUTE, NOON, WINDOW


def at(ago, rows, **changes):
    return replace(WINDOW, planned_at=NOON - ago, committed_at=NOON - ago + MINUTE, rows=rows, **changes)


def test_a_sparkline_has_the_rows_of_one_day_and_no_others():
    windows = [
        at(MINUTE, 100), at(2 * MINUTE, 100), at(DAY - MINUTE, 1), at(DAY, 999),
        at(30 * MINUTE, 50, state="open"), at(-MINUTE, 7),
    ]  # fmt: skip
    found = sparkline(windows, NOON)
    assert found.label == "last 24 hours: 201 rows in 3 windows, at most 200 in a quarter"
    first, last = found.bars
    assert (first.x, first.height) == (0, 3), "one row can be seen"
    assert (last.height, last.y) == (HEIGHT, 0)
    assert found.path.startswith("M0 100V97h8.3V100z")
    assert WIDTH - 12 < last.x < last.x + last.width <= WIDTH


def test_no_rows_are_no_bars():
    assert sparkline([], NOON).bars == []
    assert rows_over_time([]).bars == ()


def test_windows_stand_where_they_were_planned_on_an_axis_of_time():
    windows = [at(0 * MINUTE, 10), at(60 * MINUTE, 40), at(120 * MINUTE, None, state="open", planned_rows=20)]
    rows = rows_over_time(windows)
    assert [bar.height for bar in rows.bars] == [25, 100, 50]
    assert [round(bar.x + bar.width / 2) for bar in rows.bars] == [994, 500, 6]
    assert rows.top == "40 rows"
    assert rows.ticks == ("11-21 10:00", "11-21 11:00", "11-21 12:00")
    assert [bar.kind for bar in rows.bars] == ["committed", "committed", "open"]
    assert seconds_over_time(windows).top == "1 min 00 s"


def test_one_window_alone_is_drawn():
    assert len(rows_over_time([at(MINUTE, 10)]).bars) == 1
