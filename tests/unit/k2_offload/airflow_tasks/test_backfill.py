"""What one run of k2_backfill does with several tables; nothing is submitted, and both tiers are left out."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout

from k2_offload.airflow_tasks import backfill
from k2_offload.airflow_tasks.spark_application import with_runner
from k2_offload.core.errors import NotBegun, OffloadError, Unreachable
from k2_offload.core.windows import Window

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
PARAMS = {
    "tables": [], "from": "", "to": "", "max_rows": 0, "newest_first": False, "accept_fewer": False,
    "accept_null": False, "dry_run": False,
}  # fmt: skip


class Run:
    """A run over tables of one range each.

    :ivar problems: why a table cannot be looked at, by its name
    :ivar done: whose accepted NULLs were kept, tables that were filled, and those whose views were renewed
    :ivar short: tables of which fewer rows came than were left out
    :ivar failures: what becomes of a table's application, by the table's name
    :ivar killed: whether Airflow has ended the task by the time an application fails
    :ivar now: moves on with each application
    :ivar dag_run: as Airflow shows it to each attempt
    :ivar snapshots: those of backfills, by table
    """

    def __init__(self, monkeypatch):
        self.problems, self.done, self.short = {}, [], set()
        self.failures, self.killed = {}, False
        self.now, self.snapshots = NOON, {}
        self.begin()
        self.tables = [SimpleNamespace(name=name, job_group="bronze") for name in "abc"]
        tiers = SimpleNamespace(tables=SimpleNamespace(select=self._select))
        monkeypatch.setattr(backfill, "open_tiers", lambda: nullcontext(tiers))
        monkeypatch.setattr(backfill, "find_left_out", self._find)
        monkeypatch.setattr(backfill, "plan_backfills", lambda _, found, *__, **___: iter([found.table.name]))
        monkeypatch.setattr(backfill, "group_plans", lambda plans: [SimpleNamespace(to_json=lambda: plans[0][1])])
        monkeypatch.setattr(backfill, "renew_views", self._renew)
        monkeypatch.setattr(backfill, "record_nulls", lambda _, found: self.done.append(f"nulls of {found.table.name}"))
        monkeypatch.setattr(backfill, "check_all_came", self._check)

    def begin(self):
        """Another run; what it does until the next one are attempts of this one."""
        self.now += timedelta(minutes=5)
        self.dag_run = SimpleNamespace(start_date=self.now, run_after=self.now - timedelta(minutes=1), clear_number=0)

    def _select(self, names, _layer):
        return [table for table in self.tables if not names or table.name in names]

    def _find(self, _, table, *__):
        if table.name in self.problems:
            raise self.problems[table.name]
        ranges = () if table.name in self.done else (Window(NOON, NOON.replace(hour=13)),)
        cold = SimpleNamespace(chain=SimpleNamespace(latest=lambda: self.snapshots.get(table.name, [])))
        return SimpleNamespace(table=table, ranges=ranges, rows=len(ranges), may_have_expired=False, cold=cold)

    def _check(self, found):
        if found.table.name in self.short:
            raise OffloadError(f"{found.table.name}: not all rows came")

    def _renew(self, _, tables):
        self.done += [f"view of {table.name}" for table in tables]
        return ["its view was not renewed"]

    def execute(self, *tables, **params):
        task = with_runner(backfill.BackfillOperator)(task_id="backfill")

        def submit(_, plan, *__, **___):
            self.done.append(plan)
            task.killed = self.killed
            if plan in self.failures:
                raise self.failures[plan]
            self.now += timedelta(minutes=1)
            self.snapshots[plan] = [snapshot(self.now, "k2-backfill/…")]

        task.submit = submit
        task.execute({"params": PARAMS | {"tables": list(tables)} | params, "dag_run": self.dag_run})


def snapshot(at, backfill, *, visible=True):
    return SimpleNamespace(at=at, snapshot=SimpleNamespace(backfill=backfill), visible=visible)


@pytest.fixture
def run(monkeypatch):
    return Run(monkeypatch)


def test_a_view_is_renewed_after_each_application(run):
    run.execute("a")
    assert run.done == ["nulls of a", "a", "view of a"]


def test_a_table_that_has_not_begun_fails_only_who_asks_for_it(run):
    run.problems["b"] = NotBegun("b holds no window yet")
    run.execute()
    assert [each for each in run.done if len(each) == 1] == ["a", "c"]
    with pytest.raises(AirflowFailException, match="b holds no window yet"):
        run.execute("b")


def test_a_table_that_cannot_be_filled_fails_after_the_others(run):
    run.problems["a"] = OffloadError("a cannot be read")
    with pytest.raises(AirflowFailException, match="a cannot be read"):
        run.execute()
    assert [each for each in run.done if len(each) == 1] == ["b", "c"]


def test_a_table_whose_application_fails_keeps_no_other_from_its_turn_and_another_attempt_is_made(run):
    run.problems["b"] = OffloadError("b cannot be read")
    run.failures["a"] = AirflowException("Error code is: 1.")
    with pytest.raises(AirflowException, match=r"a: Error code is: 1\.\nb cannot be read") as raised:
        run.execute()
    assert not isinstance(raised.value, AirflowFailException)
    assert [each for each in run.done if len(each) == 1] == ["a", "c"]


@pytest.mark.parametrize(
    "failure",
    [
        AirflowFailException("no other attempt"), AirflowTaskTimeout("too long"), KeyboardInterrupt(),
        Unreachable("ClickHouse", "k2_clickhouse", "refused"),
    ],
)  # fmt: skip
def test_what_is_not_one_tables_own_failure_ends_the_attempt(run, failure):
    run.failures["a"] = failure
    with pytest.raises(type(failure)):
        run.execute()
    assert [each for each in run.done if len(each) == 1] == ["a"]


def test_what_ends_the_attempt_hides_nothing_of_the_tables_before(run, caplog):
    run.failures["a"] = AirflowException("Error code is: 1.")
    run.problems["b"] = OffloadError("b cannot be read")
    run.problems["c"] = Unreachable("ClickHouse", "k2_clickhouse", "refused")
    with pytest.raises(Unreachable):
        run.execute()
    assert "a has failed; the other tables have their turn: Error code is: 1." in caplog.messages
    assert "b cannot be read" in caplog.messages


def test_a_task_that_was_killed_begins_no_other_table(run):
    run.failures["a"], run.killed = AirflowException("stopped before its end"), True
    with pytest.raises(AirflowException, match=r"^stopped before its end"):
        run.execute()
    assert [each for each in run.done if len(each) == 1] == ["a"]


def test_a_table_of_which_fewer_rows_came_is_red(run):
    run.short.add("a")
    with pytest.raises(AirflowFailException, match="a: not all rows came"):
        run.execute()
    assert run.done.count("a") == 1
    run.begin()
    run.execute()  # it was told; b and c have nothing to do with it
    with pytest.raises(AirflowFailException, match="a: not all rows came"):
        run.execute("a")
    run.execute("a", accept_fewer=True)


@pytest.fixture
def short_in_the_first_attempt(run):
    """All of a was brought, and came short, in an attempt that ended with a failure of b."""
    run.short.add("a")
    run.failures["b"] = AirflowException("Error code is: 1.")
    with pytest.raises(AirflowException, match=r"b: Error code is: 1\.\na: not all rows came"):
        run.execute()
    run.failures.clear()
    run.done.remove("b")
    return run


def test_a_table_that_came_short_in_an_earlier_attempt_is_red(short_in_the_first_attempt):
    run = short_in_the_first_attempt
    with pytest.raises(AirflowFailException, match=r"^a: not all rows came"):
        run.execute()
    assert run.done.count("a") == 1
    assert run.done.count("b") == 1
    run.execute(accept_fewer=True)
    run.begin()
    run.execute()


def test_a_run_that_is_cleared_after_its_end_is_the_same_run(short_in_the_first_attempt):
    run = short_in_the_first_attempt
    run.dag_run.start_date, run.dag_run.clear_number = run.now + timedelta(hours=1), 1
    with pytest.raises(AirflowFailException, match=r"^a: not all rows came"):
        run.execute()


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param(lambda began: [snapshot(began, None)], id="a window"),
        pytest.param(lambda began: [snapshot(began, "k2-backfill/…", visible=False)], id="staged, or rolled back"),
        pytest.param(lambda began: [snapshot(began - timedelta(seconds=1), "k2-backfill/…")], id="of an earlier run"),
    ],
)
def test_what_the_run_has_not_brought_is_not_its_own(run, entries):
    run.done += ["a", "b", "c"]
    run.short.add("a")
    run.snapshots["a"] = entries(run.dag_run.start_date)
    run.execute()


def test_a_dry_run_keeps_nothing(run):
    run.execute("a", dry_run=True, accept_null=True)
    assert run.done == []
