"""What the screen shows stays whole."""

from __future__ import annotations

from types import SimpleNamespace

from rich.console import Console

from k2_offload.cli import class_archive, console
from k2_offload.cli.console import number_table, show_error, show_table, with_progress
from k2_offload.cli.run import explain


def test_brackets_in_an_error_are_text_and_a_long_error_stays_on_one_line(monkeypatch, capsys):
    monkeypatch.setattr(console, "errors", Console(stderr=True, width=40, highlight=False))
    message = "correct [k2_offload] spark_jars, " + "a very long path/" * 10
    show_error(message)
    assert capsys.readouterr().err == f"✗ {message}\n"


def test_brackets_in_a_heading_and_beside_a_bar_are_text(monkeypatch, capsys):
    table = number_table(["path[/tmp]"], ["price[usd]"], ["a[/b]"])
    table.add_row("x", "1", "y")
    show_table(table)
    assert capsys.readouterr().out.splitlines()[0].split() == ["path[/tmp]", "price[usd]", "a[/b]"]
    monkeypatch.setattr(console, "_QUIET_SECONDS", -1)
    assert list(with_progress("reading", ["file:///srv/[/lake]/1.parquet"])) == ["file:///srv/[/lake]/1.parquet"]
    assert capsys.readouterr().err == "reading file:///srv/[/lake]/1.parquet (1 of 1)\n"
    monkeypatch.setattr(console, "errors", Console(stderr=True, width=80, force_terminal=True, highlight=False))
    assert list(with_progress("reading", ["[/lake]"])) == ["[/lake]"]
    assert "reading [/lake]" in capsys.readouterr().err


def test_brackets_in_a_path_that_is_told_are_text(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "[/x]"
    folder.mkdir(parents=True)
    log = folder / "log[y]"
    log.write_text("")
    explain(log)
    assert f"Airflow's log of this run: {log}\n" in capsys.readouterr().err
    settings = SimpleNamespace(spark_class_archive=str(log), spark_binary="s", spark_jars="j", spark_python="p")
    monkeypatch.setattr(class_archive, "load_settings", lambda: settings)
    monkeypatch.setattr(class_archive.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))
    class_archive.class_archive()
    assert capsys.readouterr().out == f"{log}: 0 MiB\n"


def test_no_number_is_cut_short_in_a_narrow_terminal(monkeypatch, capsys):
    monkeypatch.setattr(console, "screen", Console(width=20))
    table = number_table(["table"], ["warm rows", "cold rows"])
    table.add_row("bronze_trades_binance", "3,777,490", "77")
    show_table(table)
    heading, row = (line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert row == "bronze_trades_binance  3,777,490         77"
    assert len(row) == len(heading), "numbers end where their heading ends"
