"""A run in this process that does not go on is interrupted, and only such a one; what becomes of the scheduler's."""

from __future__ import annotations

import io
import json
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow import sdk
from airflow.api.common import trigger_dag as triggering

from k2_offload.adapters.dag_runs import ActiveRun
from k2_offload.airflow_tasks.params import tables_param
from k2_offload.cli import dag_runner
from k2_offload.cli.dag_runner import Events, interrupted_when_stuck, run_by_scheduler, run_layer
from k2_offload.core.errors import NoAirflowDatabase
from k2_offload.core.gaps import Gap, GapKind
from k2_offload.core.limits import TASK_SECONDS, unchanged_seconds
from k2_offload.core.windows import Window

DAG = "k2_offload_bronze"
UNCHANGED_SECONDS = unchanged_seconds(TASK_SECONDS)


@pytest.mark.parametrize(
    ("run_id", "changed_ago", "interrupted"),
    [
        pytest.param("own", UNCHANGED_SECONDS + 60, True, id="no task can take that long"),
        pytest.param("own", UNCHANGED_SECONDS - 60, False, id="a task may take that long"),
        pytest.param("another", UNCHANGED_SECONDS + 60, False, id="another run is not its business"),
    ],
)
def test_a_run_that_does_not_go_on_is_interrupted(monkeypatch, run_id, changed_ago, interrupted):
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    changed = datetime.now(UTC) - timedelta(seconds=changed_ago)
    looked, looks = threading.Event(), iter(range(10))

    def read_active_runs(_):
        match next(looks):
            case 0:
                raise NoAirflowDatabase("away for a moment")
            case 1:
                return [ActiveRun(DAG, run_id, "running", long_ago, changed, True, None)]
            case _:
                looked.set()
                return []

    monkeypatch.setattr(dag_runner, "read_active_runs", read_active_runs)
    said = io.StringIO()
    try:
        with interrupted_when_stuck(DAG, "own", Events(said), look_seconds=0.001):
            assert looked.wait(10)
    except KeyboardInterrupt:
        assert interrupted
        assert "run own does not go on" in said.getvalue()
    else:
        assert not interrupted


@pytest.mark.parametrize(
    ("state", "ended", "said"),
    [
        pytest.param("queued", True, "ended run {run}, which had not begun", id="not begun"),
        pytest.param("running", False, "run {run} goes on: the scheduler runs it. To stop it, mark", id="begun"),
        pytest.param(None, False, None, id="it has ended"),
        pytest.param("away", False, "run {run} may go on: the scheduler has it. To stop it, mark", id="nobody knows"),
    ],
)
def test_a_run_of_the_scheduler_is_taken_back_or_named_when_the_command_is_interrupted(monkeypatch, state, ended, said):
    began = datetime.now(UTC)
    runs, ends = [], []

    def trigger_dag(_, *, run_id, **__):
        runs.append(run_id)
        raise KeyboardInterrupt  # it is there, and nobody has been told its name yet

    def read_active_runs(_):
        if state == "away" and runs:
            raise NoAirflowDatabase("away")
        others = [ActiveRun(DAG, "another", "queued", began, began, False, None)]
        return others + [ActiveRun(DAG, run, state, began, began, False, None) for run in runs if state]

    monkeypatch.setattr(triggering, "trigger_dag", trigger_dag)
    monkeypatch.setattr(dag_runner, "read_active_runs", read_active_runs)
    monkeypatch.setattr(dag_runner, "end_run", lambda _, run_id: ends.append(run_id))
    events = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        run_by_scheduler(DAG, {}, Events(events))
    waiting, *notices = (json.loads(line)["text"] for line in events.getvalue().splitlines())
    assert "waiting for run another" in waiting
    assert ends == (runs if ended else [])
    assert len(notices) == (said is not None)
    assert not said or said.format(run=runs[0]) in notices[0]


def test_what_was_skipped_since_the_run_began_is_told_once(monkeypatch):
    noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
    before, other, now = (
        Gap(Window(noon, noon + timedelta(hours=hours)), kind, 7, noon)
        for hours, kind in ((1, GapKind.SKIPPED), (2, GapKind.EXPIRED), (3, GapKind.SKIPPED))
    )
    gaps = {"trades": [before]}
    ledger = SimpleNamespace(migrate=lambda: None, read_tables=dict, read_gaps=lambda: gaps)
    monkeypatch.setattr(dag_runner, "open_ledger", lambda _: ledger)
    monkeypatch.setattr(dag_runner, "load_settings", lambda: None)
    said = io.StringIO()
    watch = dag_runner.LedgerWatch(Events(said))
    gaps["trades"] += [other, now]
    watch.look()
    watch.look()
    [event] = map(json.loads, said.getvalue().splitlines())
    assert (event["event"], event["table"], event["state"], event["rows"]) == ("WindowMoved", "trades", "left_out", 7)
    assert event["high"] == "2026-03-04T15:00:00.000000Z"


@pytest.mark.parametrize(
    ("asked", "told"),
    [([], []), (["ohlcv_1m"], ["ohlcv_1m"]), (["trades", "ohlcv_1m"], ["ohlcv_1m"]), (["trades", "gone"], None)],
)
def test_a_run_for_tables_that_have_left_the_table_file_is_no_run_for_all(monkeypatch, asked, told):
    confs, said = [], io.StringIO()
    monkeypatch.setattr(dag_runner, "_scheduler_takes", lambda _: True)
    monkeypatch.setattr(dag_runner, "run_by_scheduler", lambda _, conf, __: confs.append(conf) or "success")
    dag = sdk.DAG("k2_offload_gold", params={"tables": tables_param("move", ["ohlcv_1m", "ohlcv_5m"])})
    state = run_layer(dag, asked, {"dry_run": True}, Events(said))
    if told is None:
        assert (state, confs) == ("missing", [])
        assert "trades, gone" in json.loads(said.getvalue())["text"]
    else:
        assert (state, confs, said.getvalue()) == ("success", [{"dry_run": True, "tables": told}], "")
