"""Maintenance that is missed."""

from __future__ import annotations

from datetime import timedelta

AGED = "UPDATE k2_offload.offload_windows SET planned_at = planned_at - interval '3 days' WHERE table_name = %s"


def test_maintenance_has_never_run_for_days(runbook):
    scenario = runbook("maintenance.md#maintenance-does-not-run")
    assert scenario.airflow(AGED, scenario.table) == 1
    scenario.fires("K2MaintenanceMissed")
    scenario.check()
    scenario.fix()
    scenario.clears("K2MaintenanceMissed")
    scenario.insert(timedelta(minutes=20))
    scenario.k2("run", scenario.table)
    scenario.verify()
    scenario.tables_equal()
