"""A run in this process that does not go on is interrupted, and only such a one."""

from __future__ import annotations

import io
import threading
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.adapters.dag_runs import ActiveRun
from k2_offload.cli import dag_runner
from k2_offload.cli.dag_runner import Events, interrupted_when_stuck
from k2_offload.core.errors import NoAirflowDatabase
from k2_offload.core.limits import TASK_SECONDS, unchanged_seconds

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
