"""What ``k2 heal`` says in the end: equal only if all is, and compared only if something was."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from k2_offload.cli import heal
from k2_offload.cli.main import app
from k2_offload.core.day_comparison import DayComparison, DayScope
from k2_offload.core.tables import Tables
from k2_offload.work.reconcile import Found
from tests.model.world import TABLES

DAY = date(2026, 3, 4)
EQUAL = DayComparison("bronze_a", DayScope(DAY, datetime(2026, 3, 5, tzinfo=UTC)), 1, True, 5, 7, 5, cold_hash=7)
LATE = replace(EQUAL, warm_rows=6, late_rows=1)
BROKEN = replace(EQUAL, problem="7.parquet is missing", cold_hash=0)


class Fake:
    """The tiers, and what a comparison finds."""

    def __init__(self):
        self.days = []
        self.published = object()
        self.tables = TABLES

    @contextmanager
    def open_tiers(self):
        ledger = SimpleNamespace(migrate=lambda: None)
        cold = SimpleNamespace(published=self.published)
        yield SimpleNamespace(tables=self.tables, ledger=ledger, load_cold=lambda _: cold)

    def reconcile(self, _tiers, tables, _days, **_):
        return [Found(tables[0], (day,)) for day in self.days]


@pytest.fixture
def fake(monkeypatch):
    made = Fake()
    monkeypatch.setattr(heal, "open_tiers", made.open_tiers)
    monkeypatch.setattr(heal, "reconcile", made.reconcile)
    return made


def k2(*arguments):
    return CliRunner().invoke(app, ["heal", *arguments])


@pytest.mark.parametrize(
    ("day", "words"),
    [
        (LATE, "It may be healed, and has not been"),
        (replace(LATE, whole=False), "It was not healed, because the warm tier may no longer hold the day as a whole"),
        (replace(BROKEN, whole=False), "unreadable: cannot be read: 7.parquet is missing"),
    ],
    ids=["late rows", "late rows, not whole", "unreadable, not whole"],
)
def test_days_that_differ_are_named_and_are_not_called_equal(fake, day, words):
    fake.days = [EQUAL, day]
    shown = k2("--dry-run")
    assert shown.exit_code == 1
    assert words in shown.stderr
    assert "all days equal" not in shown.stdout
    found = k2("--dry-run", "--json")
    assert (found.exit_code, len(json.loads(found.stdout))) == (1, 2)


@pytest.mark.parametrize("arguments", [("--dry-run",), ("--yes",)])
def test_a_day_that_may_shrink_and_has_not_is_not_called_equal(fake, arguments):
    fake.days = [replace(EQUAL, cold_rows=8, gone_rows=3, cold_hash=9)]
    shown = k2("bronze_a", "--day", "2026-03-04", "--allow-shrink", *arguments)
    assert (shown.exit_code, "all days equal" in shown.stdout) == (1, False)
    assert "It may be healed, and has not been" in shown.stderr


EXPIRED = replace(EQUAL, whole=False, warm_rows=0, cold_rows=41_000, gone_rows=41_000)
OTHERS = replace(EQUAL, other_rows=3)


def test_what_is_equal_is_called_so(fake):
    fake.days = [EQUAL, EQUAL]
    shown = k2()
    assert (shown.exit_code, shown.stdout.splitlines()[-1]) == (0, "all days equal")


@pytest.mark.parametrize(
    ("day", "words"),
    [
        (EXPIRED, r"bronze_a: 1 days hold more rows in the cold tier, .* right ones cannot be said any more\.$"),
        (OTHERS, r"bronze_a: 1 days hold rows in the cold tier that were not compared, .* cannot be said; the rest of"),
    ],
    ids=["expired", "left out"],
)
def test_a_day_of_which_nobody_can_say_is_not_called_equal(fake, day, words):
    fake.days = [EQUAL, day]
    shown = k2("bronze_a", "--day", "2026-03-04")
    assert (shown.exit_code, "all days equal" in shown.stdout) == (0, False)
    assert re.search(words, shown.stdout.splitlines()[-1])


@pytest.mark.parametrize("arguments", [(), ("bronze_a", "--day", "2026-03-04")])
def test_where_no_window_is_published_nothing_was_compared(fake, arguments):
    fake.published = None
    shown = k2(*arguments)
    assert (shown.exit_code, "Nothing was compared" in shown.stderr) == (1, True)
    assert "all days equal" not in shown.stdout
    assert json.loads(k2(*arguments, "--json").stdout) == []


@pytest.mark.usefixtures("fake")
def test_where_nothing_is_due_it_says_so():
    shown = k2()
    assert (shown.exit_code, "no day is due" in shown.stdout, "all days equal" in shown.stdout) == (0, True, False)


def test_a_table_that_is_not_compared_is_refused_when_it_is_named(fake):
    left_alone = replace(TABLES["bronze_a"], reconcile=False)
    fake.tables = Tables({**TABLES.by_name, "bronze_a": left_alone})
    for arguments in (["bronze_a"], ["bronze_b", "bronze_a", "--day", "2026-03-04", "--allow-shrink", "--yes"]):
        refused = k2(*arguments)
        assert refused.exit_code == 2
        assert "bronze_a: not compared, because the table file says 'reconcile: false'" in refused.stderr
    assert k2().exit_code == 0, "the others are compared"
    fake.tables = Tables({"bronze_a": left_alone})
    assert k2().exit_code == 2
