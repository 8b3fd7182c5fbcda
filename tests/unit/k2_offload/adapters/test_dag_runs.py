"""Which run nobody runs any more; how runs are read and ended is tested with a real one, in the test of ``k2 run``."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.adapters.dag_runs import ActiveRun, conf_of_this_process
from k2_offload.core.limits import TASK_SECONDS, unchanged_seconds

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
HERE = conf_of_this_process({})["process"]
GONE = "/".join([*HERE.split("/")[:-1], "1"])
LONG_AGO = NOW - timedelta(seconds=unchanged_seconds(TASK_SECONDS) + 1)
RUN = ActiveRun("k2_offload_bronze", "manual", "running", LONG_AGO, NOW, True, None)


@pytest.mark.parametrize(
    ("run", "abandoned"),
    [
        pytest.param(replace(RUN, process=GONE), True, id="its process is gone"),
        pytest.param(replace(RUN, process=HERE, last_change=LONG_AGO), False, id="its process lives, however slow"),
        pytest.param(replace(RUN, process="elsewhere/1/2"), False, id="another machine's, at work"),
        pytest.param(replace(RUN, process="elsewhere/1/2", last_change=LONG_AGO), True, id="another machine's, still"),
        pytest.param(RUN, False, id="airflow dags test, at work"),
        pytest.param(replace(RUN, last_change=LONG_AGO), True, id="airflow dags test, left"),
        pytest.param(replace(RUN, last_change=LONG_AGO, task_seconds=3600), False, id="its tasks may take longer"),
        pytest.param(replace(RUN, outside=False, last_change=LONG_AGO), False, id="the scheduler's"),
        pytest.param(replace(RUN, state="queued", last_change=LONG_AGO), False, id="waiting for the scheduler"),
    ],
)
def test_only_a_run_that_nobody_can_be_running_is_abandoned(run, abandoned):
    assert run.is_abandoned(NOW) is abandoned


def test_a_run_of_this_process_names_it_and_keeps_its_conf():
    assert conf_of_this_process({"tables": ["a"]}) == {"tables": ["a"], "process": HERE}
