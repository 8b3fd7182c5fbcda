"""Alerts that fire in a real Prometheus, the commands of their runbooks, and alerts that are over."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from fastapi import FastAPI

from k2_offload.airflow_tasks.dag_ids import dag_id
from k2_offload.core.tables import LAYERS
from k2_offload.web.metrics_route import latest_observation, router
from k2_offload.work.observe import look
from tests.support import free_ports
from tests.support.pages import DOCS
from tests.support.prometheus import RULES, running_prometheus

RESULTS = """# Runbooks that have run

Written by `make runbooks` on {day}: each alert fired in a real Prometheus and was over after what its runbook says,
and the commands of the runbook were run on the way. All durations of the rules were divided by {divisor}, and no
threshold. Seconds are counted from the moment in which one looked first, after something was broken or mended.

| alert | fired after (s) | over after (s) | commands |
|---|---:|---:|---|
"""
TOKEN, DIVISOR = "of-prometheus", 300
CLICKHOUSE = "AIRFLOW__K2_OFFLOAD__CLICKHOUSE_CONN_ID"
ELSEWHERE = '{"conn_type": "clickhouse", "host": "127.0.0.1", "port": 1}'
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
          if "alert" in rule}  # fmt: skip


def commands(alert, step, table):
    """The ``k2`` commands that the alert's runbook has below Check or Verify, for one table."""
    page, _, anchor = ALERTS[alert]["annotations"]["runbook"].partition("#")
    sections = re.split(r"^## ", (DOCS.parent / page).read_text(), flags=re.MULTILINE)
    [section] = [each for each in sections if each.partition("\n")[0].lower().replace(" ", "-") == anchor]
    text = re.search(rf"\*\*{step}\*\*(.*?)(?:\n\*\*|\Z)", section, re.DOTALL)[1]
    found = [shlex.split(line.replace("TABLE", table))[1:] for line in re.findall(r"`(k2 [^`]*)`", text)]
    return [line for line in found if line[0] != "run"]  # there is no Airflow that could run a DAG


@pytest.fixture
def prometheus(monkeypatch, shell, tmp_path):
    """Scrapes the real route, whose every answer is a look of its own."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian: package prometheus); .ci/run fetches it")
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__METRICS_TOKEN", TOKEN)
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__TABLES_FILE", str(shell.tables_file))
    app, look_now = FastAPI(), partial(look, [*map(dag_id, LAYERS)], time.monotonic)
    app.include_router(router)
    app.dependency_overrides[latest_observation] = lambda: SimpleNamespace(get=look_now)
    look_now()  # loads Airflow's models
    with running_prometheus(app, TOKEN, tmp_path, free_ports(2), DIVISOR) as running:
        yield running


def test_alerts_fire_their_runbooks_run_and_they_are_over(prometheus, shell, moved, monkeypatch):
    results = []
    workbench, spec = shell.workbench, shell.workbench.spec(moved)
    cycle = workbench.cycle(spec)

    @contextmanager
    def fires(alert, *, of=moved):
        """The alert fires by now, and what follows mends what it is about."""
        after = prometheus.seconds_until((alert, of), fires=True)
        yield
        cleared = prometheus.seconds_until((alert, of), fires=False)
        for line in commands(alert, "Verify", moved):
            shell.k2(*line)
        ran = [f"`k2 {shlex.join(line)}`" for step in ("Check", "Verify") for line in commands(alert, step, "TABLE")]
        results.append(f"| `{alert}` | {after:.1f} | {cleared:.1f} | {', '.join(ran) or 'none'} |")

    assert not {name for name, of in prometheus.firing() if of == moved}

    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", ELSEWHERE)
    monkeypatch.setenv(CLICKHOUSE, "elsewhere")
    with fires("K2ServiceDown", of="clickhouse"):
        for line in commands("K2ServiceDown", "Check", moved):
            found = shell.k2(*line, exit_code=1, AIRFLOW_CONN_ELSEWHERE=ELSEWHERE, **{CLICKHOUSE: "elsewhere"})
            assert "'elsewhere'" in found.stdout
        monkeypatch.delenv(CLICKHOUSE)

    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__METRICS_TOKEN", "another")
    with fires("K2MetricsDown", of=""):
        monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__METRICS_TOKEN", TOKEN)

    shell.tables(workbench.spec(moved, timestamp_column="no_such_column"))
    with fires("K2TableStopped"):
        for line in commands("K2TableStopped", "Check", moved):
            assert "no_such_column" in shell.k2(*line, exit_code=1).stderr
        found = {each["check"]: each for each in shell.json("doctor", exit_code=1) if each["state"] == "red"}
        assert found["chain and source"]["subject"] == moved
        assert found["chain and source"]["page"] == "offload-failure.md#a-table-does-not-move"
        shell.tables(spec)

    late = datetime.now(UTC) - timedelta(minutes=50)
    workbench.insert_trades(moved, late, 100, start_sequence=5000)
    with fires("K2LagHigh"):
        for line in commands("K2LagHigh", "Verify", moved):
            assert "lag 50 min" in shell.k2(*line, exit_code=1).stderr
        for line in commands("K2LagHigh", "Check", moved):
            shell.k2(*line)
        for _ in range(2):
            assert cycle.plan(cycle.tables[moved])
            cycle.commit(cycle.tables[moved])
        with fires("K2WindowFailsAgain"):
            for line in commands("K2WindowFailsAgain", "Check", moved):
                shell.k2(*line)
            while workbench.move(cycle, moved) is not None:
                pass
    workbench.check(cycle, [moved])
    found = {each["check"] for each in shell.json("doctor", exit_code=1) if each["state"] == "red"}
    assert found == {"runs"}, "Airflow knows no DAG of a stack without Airflow"
    if page := os.environ.get("K2_RUNBOOK_RESULTS"):
        head = RESULTS.format(day=datetime.now(UTC).date(), divisor=DIVISOR)
        Path(page).write_text(head + "\n".join(results) + "\n")
