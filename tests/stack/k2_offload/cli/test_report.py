"""``k2 report`` and the DAG k2_report say what the day was, on real tables."""

from __future__ import annotations

import os
import re
import subprocess
from datetime import timedelta

from k2_offload.core.exactly_once import WINDOW_PROPERTY
from k2_offload.work.reconcile import reconcile
from tests.stack.k2_offload.cli.conftest import START
from tests.support.html import Page
from tests.support.ledger import change_ledger

# Nothing is loaded from anywhere: no address, no file, no script.
LOADS = re.compile(r"""(?:src|href|srcset|action)=|url\(|@import|<script|https?://""")


def test_the_report_says_what_moved_was_healed_and_failed(shell, moved, tmp_path):
    bench, idle = shell.workbench, shell.workbench.create_trades("idle")
    specs = [bench.spec(moved), bench.spec(idle)]
    shell.tables(*specs)
    bench.insert_trades(moved, START + timedelta(hours=1), 234)
    cycle = bench.cycle(*specs)
    bench.move(cycle, moved)
    bench.insert_trades(moved, START + timedelta(seconds=1), 7, start_sequence=10**6)
    heals = [heal for found in reconcile(cycle.tiers, [cycle.tables[moved]]) for heal in found.heals]
    bench.publish(*heals)
    day = str(max(each.at for each in cycle.catalog.load(cycle.tables[moved]).chain.latest(1)).date())
    cold = shell.cold(moved)
    windows = [each for each in cold.metadata.snapshots if WINDOW_PROPERTY in each.summary.additional_properties]

    # The ledger forgets; what moved is read off the chain all the same.
    change_ledger(bench.stack.ledger_dsn, "DELETE FROM k2_offload.offload_windows", moved)
    file = tmp_path / "of a day.html"
    busy, quiet = shell.json("report", "--day", day, "--output", str(file))["tables"]
    assert (busy["rows"] + busy["healed_rows"], busy["heals"]) == (sum(bench.cold_rows(moved).values()), 1)
    assert (busy["windows"], busy["from_chain"], busy["late_rows"]) == (len(windows), True, 0)
    assert busy["lag_p50_seconds"] > 3600
    assert (quiet["rows"], quiet["windows"], quiet["lag_p99_seconds"], quiet["findings"]) == (0, 0, None, [])
    html = file.read_text()
    assert LOADS.findall(html.replace('name="viewport"', "")) == []
    page = Page(html.partition("\n")[2].replace("<!doctype html>", ""))
    assert f"{moved} {busy['rows']:,}" in page.text
    assert "light-dark(" in html

    assert "No run moved, healed or tidied anything on that day." in shell.k2("report", "--day", "2026-01-02").stdout
    assert "2299-12-31 has not begun" in shell.k2("report", "--day", "2299-12-31", exit_code=2).stderr

    folder = tmp_path / "reports"
    environment = {**os.environ, **shell.environment, "AIRFLOW__K2_OFFLOAD__REPORT_FOLDER": str(folder)}
    command = ["airflow", "dags", "test", "k2_report", "--conf", f'{{"day": "{day}"}}']
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{busy['rows']:,}</td>" in (folder / f"k2-{day}.html").read_text()
