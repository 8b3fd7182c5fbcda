"""When the DAGs that have a time of their own begin."""

from __future__ import annotations

from datetime import UTC, datetime

import pendulum
import pytest
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DataInterval, TimeRestriction

from k2_offload.adapters.settings import Settings
from k2_offload.adapters.table_file import load_tables
from k2_offload.airflow_tasks.maintenance_dag import build_maintenance_dag
from k2_offload.airflow_tasks.reconcile_dag import build_reconcile_dag
from k2_offload.airflow_tasks.report_dag import build_report_dag

TABLES = load_tables(Settings().tables_file)
MIDNIGHT = datetime(2026, 11, 27, tzinfo=UTC)


@pytest.mark.parametrize(
    ("build", "first"),
    [
        (build_report_dag, MIDNIGHT.replace(minute=50)),
        (lambda: build_reconcile_dag(TABLES), MIDNIGHT.replace(minute=7)),
        (lambda: build_maintenance_dag(TABLES), MIDNIGHT.replace(hour=3, minute=22)),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu"])
def test_what_runs_at_a_time_of_its_own_runs_by_utc_whatever_airflows_time_zone_is(monkeypatch, zone, build, first):
    monkeypatch.setattr("airflow.settings.TIMEZONE", pendulum.timezone(zone))
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(build())).timetable  # as the scheduler has it
    midnight = DataInterval.exact(pendulum.instance(MIDNIGHT))
    always = TimeRestriction(earliest=None, latest=None, catchup=True)
    info = timetable.next_dagrun_info(last_automated_data_interval=midnight, restriction=always)
    assert info.run_after == first


def test_a_dag_may_have_no_schedule():
    assert build_report_dag(schedule=None).schedule is None
