"""Lag that burns its budget, and jobs that are slow."""

from __future__ import annotations

import time
from datetime import timedelta


def test_the_lag_budget_burns(runbook):
    scenario = runbook("performance.md#the-lag-budget-burns")
    scenario.insert(timedelta(minutes=40))
    scenario.fires("K2LagBudgetBurnsFast")
    scenario.fires("K2LagBudgetBurnsSlowly")
    scenario.k2("run", scenario.table)
    scenario.clears("K2LagBudgetBurnsFast")
    scenario.clears("K2LagBudgetBurnsSlowly")
    scenario.verify()
    scenario.tables_equal()


def test_windows_move_much_slower_than_usual(runbook):
    scenario = runbook("performance.md#throughput-has-collapsed", rows=0)
    workbench = scenario.workbench

    def move(minutes, seconds):
        scenario.insert(timedelta(minutes=minutes), 12_000, step_micros=1000)
        cycle = scenario.cycle
        planned = cycle.plan(cycle.tables[scenario.table])
        assert planned.rows == 12_000
        time.sleep(seconds)
        workbench.publish(planned)
        cycle.commit(cycle.tables[scenario.table])

    move(50, 0)
    time.sleep(15)  # its pace becomes the usual one
    move(40, 15)
    scenario.fires("K2ThroughputCollapsed")
    scenario.check()
    move(30, 0)
    scenario.clears("K2ThroughputCollapsed")
    scenario.verify()
    scenario.tables_equal()


def test_a_cold_query_opens_hundreds_of_files(runbook):
    scenario = runbook("performance.md#cold-queries-are-slow", rows=0)
    files = scenario.scatter(days=2)

    def query():
        """Rows of all days, how many files they came from, and in how many seconds."""
        began = time.monotonic()
        rows = scenario.workbench.cold_rows(scenario.table)
        seconds = time.monotonic() - began
        return rows, len(list(scenario.workbench.cold_table(scenario.table).scan().plan_files())), seconds

    rows, before, slow = query()
    assert before == files
    scenario.check()
    scenario.fix()
    scenario.verify()
    again, after, fast = query()
    assert (again, after) == (rows, 2)
    assert fast < slow / 2
    scenario.tables_equal()
