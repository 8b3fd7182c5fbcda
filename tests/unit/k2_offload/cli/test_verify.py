"""What is said of all tables together after a comparison."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from k2_offload.cli import verify as command
from k2_offload.cli.main import app
from k2_offload.core.day_comparison import DayComparison, DayScope, TableComparison
from k2_offload.core.windows import Window

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("compared", "said"),
    [((True, True), "all 2 tables equal"), ((True, False), "1 tables equal; of 1 others, there was nothing")],
)
def test_a_table_of_which_nothing_was_moved_is_not_called_equal(monkeypatch, compared, said):
    window = Window(NOON - timedelta(days=1), NOON)
    results = [TableComparison(name, window if each else None, ()) for name, each in zip("ab", compared, strict=True)]
    tables = SimpleNamespace(select=lambda *_: [SimpleNamespace(name=each.table) for each in results])

    @contextmanager
    def tiers():
        yield SimpleNamespace(tables=tables)

    monkeypatch.setattr(command, "open_tiers", tiers)
    monkeypatch.setattr(command, "compare", lambda _, table, *__: results["ab".index(table.name)])
    done = CliRunner().invoke(app, ["verify"])
    assert done.exit_code == 0, done.output
    assert said in done.stdout


def test_a_column_of_any_name_and_value_is_shown_as_it_is(monkeypatch):
    day = SimpleNamespace(table="t", scope=SimpleNamespace(day=NOON.date()), late_rows=1, gone_rows=0, obstacle=str)
    counted = {"warm_rows": 2, "cold_rows": 1, "warm_hash": 1, "cold_hash": 2, "equal": False}
    result = SimpleNamespace(
        table="t", window=Window(NOON - timedelta(days=1), NOON), differing=[day], days=(), problem=None, **counted
    )
    table = SimpleNamespace(name="t")
    tiers = SimpleNamespace(tables=SimpleNamespace(select=lambda *_: [table]))
    row = SimpleNamespace(kind="late row", times=1, values=["[red]", "[/x]"])
    columns = [SimpleNamespace(name=name) for name in ("price[usd]", "a[/b]")]
    monkeypatch.setattr(command, "open_tiers", lambda: nullcontext(tiers))
    monkeypatch.setattr(command, "compare", lambda *_: result)
    monkeypatch.setattr(command, "read_differing", lambda *_: [row])
    monkeypatch.setattr(command, "compared_columns", lambda *_: columns)
    monkeypatch.setattr(command, "describe", lambda *_: "it differs")
    done = CliRunner().invoke(app, ["verify", "--deep"])
    assert done.exit_code == 1, done.output
    assert "it differs" in done.stderr
    heading, line = done.stdout.splitlines()[-2:]
    assert heading.split() == ["row", "times", "price[usd]", "a[/b]"]
    assert line.split() == ["late", "row", "1", "[red]", "[/x]"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"whole": False, "gone_rows": 4}, "whether they hold the right ones cannot be said any more"),
        ({"other_rows": 4}, "Whether these are the right ones cannot be said"),
        ({}, "equal"),
    ],
    ids=["expired", "left out", "equal"],
)
def test_a_day_of_which_nobody_can_say_is_not_called_equal(monkeypatch, changes, said):
    scope = DayScope(NOON.date(), NOON)
    day = DayComparison("t", scope, 1, **{"whole": True, "warm_rows": 5, "warm_hash": 7, "cold_rows": 5, **changes})
    result = TableComparison("t", Window(NOON - timedelta(days=1), NOON), (day,))
    tiers = SimpleNamespace(tables=SimpleNamespace(select=lambda *_: [SimpleNamespace(name="t")]))
    monkeypatch.setattr(command, "open_tiers", lambda: nullcontext(tiers))
    monkeypatch.setattr(command, "compare", lambda *_: result)
    done = CliRunner().invoke(app, ["verify"])
    assert done.exit_code == 0, done.output
    assert said in done.stdout
    assert (done.stdout.splitlines()[-1] == "equal") == (not changes)
