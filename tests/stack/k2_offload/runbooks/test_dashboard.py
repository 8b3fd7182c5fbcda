"""Each query of the dashboard, asked of a Prometheus that has scraped the real route after real runs."""

from __future__ import annotations

import json
import re
from datetime import timedelta

from embedded.install.layout import ROOT
from tests.support.prometheus import shorten
from tests.support.runbooks import DIVISOR

DASHBOARD = json.loads((ROOT / "docker/grafana/dashboards/k2_offload.json").read_text())
NEEDS_A_BROKER = {"Messages of the broker"}


def queries(table):
    """By panel and query; one that shows only what is wrong is asked without its threshold."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            if panel["title"] not in NEEDS_A_BROKER:
                every = re.sub(r" > 0$", "", target["expr"].replace("$table", table))
                yield (panel["title"], target["refId"]), shorten(every, DIVISOR)


def test_every_panel_of_the_dashboard_shows_data_after_real_runs(runbook):
    scenario = runbook("performance.md#cold-lag-is-high")
    table, ask = scenario.table, scenario.prometheus.query
    scenario.workbench.sql(f"ALTER TABLE {table} MODIFY TTL toDateTime(at) + INTERVAL 7 DAY")
    scenario.use(scenario.entry(warm_retention_days=7))
    scenario.insert(timedelta(minutes=50))
    scenario.fires("K2LagHigh")
    shown = {panel for panel, query in queries(table) if ask(query)}
    assert ("Until rows that wait expire", "A") in shown
    scenario.check()
    scenario.real_runs = True
    scenario.fix()
    scenario.k2("heal", table)
    scenario.clears("K2LagHigh")
    scenario.verify()
    shown |= {panel for panel, query in queries(table) if ask(query)}
    assert {panel for panel, _ in queries(table)} - shown == set()
    [waiting] = ask(f'k2_lag_seconds{{table="{table}"}}')
    assert float(waiting["value"][1]) == 0
    [cold] = ask(f'k2_cold_rows{{table="{table}"}}')
    assert float(cold["value"][1]) == scenario.workbench.sql(f"SELECT count() FROM {table}")[0][0]
    scenario.tables_equal()
