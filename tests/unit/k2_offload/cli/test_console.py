"""What the screen shows stays whole."""

from __future__ import annotations

from rich.console import Console

from k2_offload.cli import console
from k2_offload.cli.console import number_table, show_error, show_table


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
