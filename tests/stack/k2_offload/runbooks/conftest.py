"""Scenarios: something breaks, its alert fires in a real Prometheus, the runbook is followed, the alert clears."""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from embedded.stack.airflow_services import own_variables
from tests.support.prometheus import alerts
from tests.support.runbooks import RESULTS_VARIABLE, results_page, sections

NOTED = "runbook"


def pytest_terminal_summary(terminalreporter, config):
    """Write the page of results, after all scenarios alone."""
    page = os.environ.get(RESULTS_VARIABLE)
    if not page or config.option.keyword:
        return
    reports = [each for found in terminalreporter.stats.values() for each in found if hasattr(each, "user_properties")]
    failed = {each.nodeid for each in reports if each.failed}
    ran = {each.nodeid: noted for each in reports for name, noted in each.user_properties if name == NOTED}
    Path(page).write_text(
        results_page(
            datetime.now(UTC).date().isoformat(),
            [(test, "**failed**" if test in failed else "passed", noted) for test, noted in ran.items()],
            list(alerts()),
        )
    )


@pytest.fixture
def runbook(workbench, monkeypatch, tmp_path, request):
    """Gives the scenario of a section, about a table whose rows are all in both tiers.

    In the end each alert that fired is over, the runbook has verified it, and nothing of the table differs.
    """
    from tests.stack.k2_offload.runbooks.scenario import TOKEN, Scenario, scraping  # noqa: PLC0415 - loads Airflow

    tables_file = tmp_path / "tables.yaml"
    for name, value in own_variables(workbench.stack.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__METRICS_TOKEN", TOKEN)
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__TABLES_FILE", str(tables_file))
    started = []

    def begin(section, rows=1000, ago=timedelta(hours=3), columns=""):
        noted = {"section": section, "alerts": [], "commands": 0, "verified": False}
        request.node.user_properties.append((NOTED, noted))
        table = workbench.create_trades(extra=columns)
        prometheus = resources.enter_context(scraping(tables_file, tmp_path, table, workbench, rows, ago))
        scenario = Scenario(sections()[section], table, workbench, prometheus, tables_file, noted)
        started.append(scenario)
        return scenario

    with ExitStack() as resources:
        yield begin
        for scenario in started:
            assert scenario.fires_now == set()
            assert scenario.noted["verified"], "the runbook's own way to see that it is over"
