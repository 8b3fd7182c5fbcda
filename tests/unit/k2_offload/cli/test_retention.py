"""``k2 retention`` and the task that does the same: a look changes nothing, and what a person has to look at is red."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException
from typer.testing import CliRunner

from k2_offload.airflow_tasks import retention as task
from k2_offload.cli import retention
from k2_offload.cli.main import app
from k2_offload.core.holding import Record, Step
from k2_offload.work.proven_storage import PartitionState, Retention
from tests.model.world import TABLES

NOW = datetime(2026, 3, 8, tzinfo=UTC)
HELD = PartitionState("k2.trades", "20260304", "2026-03-04", 40, "held", "until 2026-03-11", NOW)


class Fake:
    """The tiers, and what was asked of them."""

    def __init__(self):
        self.asked = []
        self.found = Retention([HELD])

    @contextmanager
    def open_tiers(self):
        ledger = SimpleNamespace(migrate=lambda: self.asked.append("migrate"))
        yield SimpleNamespace(tables=TABLES, ledger=ledger, task_timeout=timedelta(minutes=10))

    def remove_proven(self, _, tables, *, dry_run, budget=None):
        self.asked.append((len(tables), dry_run, budget))
        return self.found

    def restore_day(self, _, table, day):
        self.asked.append((table.name, day))
        return Record("20260304", Step.RESTORING, (), 40, {"at": (day, day)}, {}, NOW)


@pytest.fixture
def fake(monkeypatch):
    made = Fake()
    for module in (retention, task):
        monkeypatch.setattr(module, "open_tiers", made.open_tiers)
        monkeypatch.setattr(module, "remove_proven", made.remove_proven)
    monkeypatch.setattr(retention, "restore_day", made.restore_day)
    return made


def k2(*arguments):
    return CliRunner().invoke(app, ["retention", *arguments])


def test_a_look_changes_nothing_and_apply_goes_on(fake):
    shown = k2()
    assert shown.exit_code == 0
    assert fake.asked == [(len(TABLES.by_name), True, None)]
    assert "until 2026-03-11" in shown.stdout
    assert json.loads(k2("bronze_a", "--json").stdout)[0]["at"] == "2026-03-08T00:00:00.000000Z"
    k2("bronze_a", "--apply")
    assert fake.asked[-2:] == ["migrate", (1, False, None)]
    fake.found = Retention()
    assert "No partition is held or waits" in k2().stdout


def test_a_reason_is_shown_as_it_is_whatever_brackets_it_has(fake):
    reasons = ["a mutation is not done: DELETE WHERE match(symbol, '^[a-z]+$')", "DELETE WHERE path LIKE '%[/tmp]%'"]
    fake.found = Retention([replace(HELD, reason=each) for each in reasons])
    shown = k2()
    assert shown.exit_code == 0, shown.output
    assert all(each in shown.stdout for each in reasons)


def test_a_day_of_one_table_is_brought_back(fake):
    assert "2026-03-04: its rows are back" in k2("bronze_a", "--restore", "2026-03-04").stdout
    assert fake.asked == ["migrate", ("bronze_a", date(2026, 3, 4))]
    back = json.loads(k2("bronze_a", "--restore", "2026-03-04", "--json").stdout)
    assert (back["table"], back["days"], back["rows"], back["restored"]) == ("bronze_a", "2026-03-04", 40, True)
    assert k2("--restore", "2026-03-04").exit_code == 2
    assert k2("bronze_a", "--restore", "2026-03-04", "--apply").exit_code == 2


def test_what_a_person_has_to_look_at_is_red(fake):
    fake.found = Retention([HELD], ["its seal is broken"])
    shown = k2("--apply")
    assert (shown.exit_code, "its seal is broken" in shown.stderr) == (1, True)
    operator = task.RemoveProvenOperator(task_id="remove_proven")
    with pytest.raises(AirflowFailException, match="its seal is broken"):
        operator.execute({"params": {"tables": [], "dry_run": False}})
    with pytest.raises(AirflowFailException, match="no table 'nobody'"):
        operator.execute({"params": {"tables": ["nobody"], "dry_run": False}})
    fake.found = Retention([HELD])
    operator.execute({"params": {"tables": ["bronze_a"], "dry_run": True}})
    assert fake.asked[-1] == (1, True, timedelta(minutes=5))
