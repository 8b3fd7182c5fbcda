"""No credential is in anything that Spark writes or shows, whatever moves by whatever transport."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk import BaseHook

from k2_offload.adapters import log_lines, spark_submit
from k2_offload.adapters.settings import load_settings
from k2_offload.core.fault_points import FaultPoint
from k2_offload.work.backfill import find_left_out, plan_backfills
from k2_offload.work.compare import compare_day, count_days
from k2_offload.work.reconcile import plan_heal
from tests.faults.hook import Fault, Kind
from tests.faults.output import Output

FIRST = datetime(2026, 3, 5, tzinfo=UTC)
NOW = FIRST + timedelta(hours=1)
MARK = "zq7distinctive"  # holds no word that would hide it by itself

# What a REST catalog and object stores are given; a catalog in Postgres leaves it unread, and Spark is told it as well.
SECRETS = {
    "credential": f"offload:{MARK}-1",
    "token": f"{MARK}-2",
    "header.Authorization": f"Bearer {MARK}-3",
    "s3.access-key-id": f"{MARK}-4",
    "s3.secret-access-key": f"{MARK}-5",
    "s3.session-token": f"{MARK}-6",
    "adls.auth.shared-key.account.key": f"{MARK}-7",
    "oauth2-server-uri": f"https://user:{MARK}-8@login.internal",
}


@pytest.fixture
def marked(monkeypatch):
    """The stack's connections with distinctive credentials (its ClickHouse takes any); gives what is not to be seen."""
    catalog = BaseHook.get_connection(load_settings().catalog_conn_id)
    clickhouse = BaseHook.get_connection(load_settings().clickhouse_conn_id)
    for name, real, changes in (
        ("catalog", catalog, {"extra": catalog.extra_dejson | SECRETS}),
        ("clickhouse", clickhouse, {"extra": clickhouse.extra_dejson, "password": f"{MARK}-9"}),
    ):
        fields = {key: getattr(real, key) for key in ("conn_type", "host", "port", "login", "password", "schema")}
        monkeypatch.setenv(f"AIRFLOW_CONN_MARKED_{name.upper()}", json.dumps(fields | changes))
        monkeypatch.setenv(f"AIRFLOW__K2_OFFLOAD__{name.upper()}_CONN_ID", f"marked_{name}")
    return [MARK, catalog.password]


@pytest.fixture
def whole_log(monkeypatch, tmp_path):
    """The file with Spark's whole log; the job's own lines are JSON."""
    file = tmp_path / "spark.log"
    for name, value in {**spark_submit.full_log(file), log_lines.FORMAT_VARIABLE: log_lines.JSON}.items():
        monkeypatch.setenv(name, value)
    return file


def heal_and_backfill(workbench):
    """A day with late rows, and a table whose history was left out; both planned."""
    table, newcomer = workbench.create_trades("heal"), workbench.create_trades("fill")
    specs = workbench.spec(table), workbench.spec(newcomer, history="backfill")
    for each in (table, newcomer):
        workbench.insert_trades(each, FIRST, 100)
    cycle = workbench.cycle(*specs, now=NOW)
    workbench.move(cycle, table)
    workbench.insert_trades(table, FIRST, 100, start_sequence=1000)
    days = count_days(cycle.tiers, cycle.tables[table])
    assert cycle.plan(cycle.tables[newcomer]) is None
    backfills = plan_backfills(cycle.tiers, find_left_out(cycle.tiers, cycle.tables[newcomer]))
    return [plan_heal(days, compare_day(cycle.tiers, days, FIRST.date()), ledger_id=None), *backfills]


def test_no_secret_is_in_event_log_driver_log_or_process_list(workbench, marked, whole_log, tmp_path):
    events = tmp_path / "events"
    events.mkdir()
    others = heal_and_backfill(workbench)
    tables = {transport: workbench.create_trades(transport) for transport in ("export", "jdbc")}
    for table in tables.values():
        workbench.insert_trades(table, FIRST, 100)
    specs = [workbench.spec(table, transport=transport) for transport, table in tables.items()]
    cycle = workbench.cycle(*specs, now=NOW)
    planned = [cycle.plan(cycle.tables[table]) for table in tables.values()]
    conf = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": events.as_uri(), "spark.eventLog.compress": "false"}
    waits = Fault(FaultPoint.STAGED, Kind.WAIT, tables["jdbc"])
    job = Output(workbench.start_job(*planned, *others, faults=[waits], conf=conf))
    job.wait_for("FAULT wait", seconds=150)
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    workbench.wake_file.touch()
    code, output = job.wait_for_end(seconds=150)
    assert (code, output.count(": published 100 rows")) == (0, 2), output
    assert (output.count(": healed, 200 rows"), output.count(": filled, 100 rows")) == (1, 1), output
    whole = whole_log.read_text()
    assert " INFO org.apache.spark.SparkContext" in whole
    assert " INFO org.apache.iceberg." in whole
    log = "\n".join(file.read_text() for file in events.rglob("*") if file.is_file())
    assert "spark.sql.catalog." in log, "the catalog's settings are in the event log, redacted"
    assert "SparkListenerSQLExecutionStart" in log
    assert "job.py" in listed
    for place, text in {"event log": log, "driver's log": output, "whole log": whole, "process list": listed}.items():
        for secret in marked:
            assert secret not in text, f"{place}: …{text[max(0, text.find(secret) - 200) : text.find(secret)]}"
