"""What is shown again and again: a terminal that is narrow, a service that is away, and the end."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from k2_offload.cli import watch
from k2_offload.cli.console import number_table
from k2_offload.cli.main import app
from k2_offload.cli.watch import watch_looks
from k2_offload.core.errors import InvalidTablesFile, Unreachable


@pytest.fixture
def screen(monkeypatch):
    """Makes what is watched on a screen of some width; gives what was written."""

    def make(width=80, terminal=True):
        console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False)
        monkeypatch.setattr(watch, "screen", console)
        return console.file

    return make


def looks(*each):
    """One look after another, and then Ctrl-C."""
    left = iter(each)

    def look():
        found = next(left, KeyboardInterrupt())
        if isinstance(found, BaseException):
            raise found
        return [found]

    return look


def table():
    shown = number_table(["table"], ["moved", "warm rows"])
    shown.add_row("silver_trades", "123,456", "9,876,543")
    return shown


def test_ctrl_c_is_no_failure_and_gives_the_cursor_back(screen):
    written = screen()
    paused = []
    watch_looks(looks(Text("one"), Text("two")), 7, paused.append)
    assert paused == [7, 7]
    assert "two" in written.getvalue()
    assert written.getvalue().rindex("\x1b[?25h") > written.getvalue().rindex("\x1b[?25l")


def test_a_service_that_is_away_is_told_and_looked_for_again(screen):
    written = screen()
    watch_looks(looks(Unreachable("Postgres", "k2_ledger", "refused"), Text("back again")), 1, lambda _: None)
    assert "k2_ledger" in written.getvalue()
    assert written.getvalue().rindex("back again") > written.getvalue().rindex("k2_ledger")


def test_a_wrong_table_file_ends_it(screen):
    screen()
    with pytest.raises(InvalidTablesFile):
        watch_looks(looks(InvalidTablesFile("no table")), 1)


@pytest.mark.parametrize(("width", "last"), [(80, "9,876,543"), (30, "123,456")])
def test_a_narrow_terminal_gets_fewer_columns_and_no_number_cut_short(screen, width, last):
    written = screen(width)
    watch_looks(looks(table()), 1, lambda _: None)
    assert last in written.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in written.getvalue().replace("looking \N{HORIZONTAL ELLIPSIS}", "")
    assert ("9,8" in written.getvalue()) == (width == 80)


def test_where_there_is_no_terminal_plain_lines_follow_each_other(screen):
    written = screen(terminal=False)
    watch_looks(looks(Text("one"), Text("two")), 1, lambda _: None)
    assert written.getvalue() == "one\ntwo\n"


@pytest.mark.parametrize("arguments", [("--json",), ("--fail-on", "late")])
def test_what_never_ends_has_no_document_and_no_exit_code(arguments):
    result = CliRunner().invoke(app, ["status", "--watch", *arguments])
    assert result.exit_code == 2
