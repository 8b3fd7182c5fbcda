"""Numbers and times as the screen shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from k2_offload.cli import console
from k2_offload.cli.console import number_table, show_duration, show_error, show_number, show_table, show_window

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_thousands_are_separated_and_the_unknown_is_a_dash():
    assert [show_number(value) for value in (None, 0, 999, 3_777_490)] == ["\N{EN DASH}", "0", "999", "3,777,490"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (3600, "1 h 00 min"), (90_000, "1 d 01 h")],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds, text):
    assert show_duration(timedelta(seconds=seconds)) == text


def test_a_window_names_the_day_of_its_end_only_if_it_is_another():
    assert show_window(NOON, NOON + timedelta(minutes=15)) == "2026-11-21 12:00:00 to 12:15:00"
    assert show_window(NOON, NOON + timedelta(days=1)) == "2026-11-21 12:00:00 to 2026-11-22 12:00:00"
    assert show_window(None, NOON) == "\N{EN DASH}"


def test_brackets_in_an_error_are_text_and_a_long_error_stays_on_one_line(monkeypatch, capsys):
    monkeypatch.setattr(console, "errors", Console(stderr=True, width=40, highlight=False))
    message = "correct [k2_offload] spark_jars, " + "a very long path/" * 10
    show_error(message)
    assert capsys.readouterr().err == f"✗ {message}\n"


def test_no_number_is_cut_short_in_a_narrow_terminal(monkeypatch, capsys):
    monkeypatch.setattr(console, "screen", Console(width=20))
    table = number_table(["table"], ["warm rows", "cold rows"])
    table.add_row("bronze_trades_binance", "3,777,490", "77")
    show_table(table)
    heading, row = (line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert row == "bronze_trades_binance  3,777,490         77"
    assert len(row) == len(heading), "numbers end where their heading ends"
