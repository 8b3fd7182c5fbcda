"""No credential is in anything that Spark writes or shows while a window moves, whatever the transport."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from airflow.sdk import BaseHook

from k2_offload.adapters.settings import load_settings
from k2_offload.core.fault_points import FaultPoint
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


def test_no_secret_is_in_event_log_driver_log_or_process_list(workbench, marked, tmp_path):
    events = tmp_path / "events"
    events.mkdir()
    tables = {transport: workbench.create_trades(transport) for transport in ("export", "jdbc")}
    for table in tables.values():
        workbench.insert_trades(table, FIRST, 100)
    specs = [workbench.spec(table, transport=transport) for transport, table in tables.items()]
    cycle = workbench.cycle(*specs, now=NOW)
    planned = [cycle.plan(cycle.tables[table]) for table in tables.values()]
    conf = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": events.as_uri(), "spark.eventLog.compress": "false"}
    waits = Fault(FaultPoint.STAGED, Kind.WAIT, tables["jdbc"])
    job = Output(workbench.start_job(*planned, faults=[waits], conf=conf))
    job.wait_for("FAULT wait")
    started = psutil.Process(job.process.pid)
    listed = "\n".join(" ".join(each.cmdline()) for each in [started, *started.children(recursive=True)])
    workbench.wake_file.touch()
    code, output = job.wait_for_end()
    assert (code, output.count(": published 100 rows")) == (0, 2), output
    log = "\n".join(file.read_text() for file in events.rglob("*") if file.is_file())
    assert "spark.sql.catalog." in log, "the catalog's settings are in the event log, redacted"
    assert "SparkListenerSQLExecutionStart" in log
    assert "offload.py" in listed or "job.py" in listed
    for place, text in {"event log": log, "driver's log": output, "process list": listed}.items():
        for secret in marked:
            assert secret not in text, f"{place}: …{text[max(0, text.find(secret) - 200) : text.find(secret)]}"
