"""Maintenance that is missed, and what it would have tidied."""

from __future__ import annotations

from datetime import timedelta

from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.maintenance import MAX_SNAPSHOTS
from k2_offload.core.plan import group_plans
from tests.faults.hook import Fault, Kind

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


def test_jobs_have_died_before_they_published(runbook):
    scenario = runbook("maintenance.md#staged-snapshots-are-left")
    scenario.insert(timedelta(minutes=20))
    cycle, spark = scenario.cycle, scenario.workbench.spark
    dies = [Fault(FaultPoint.AUDITED, Kind.RAISE, scenario.table).to_json()]
    for _ in range(21):
        [plan] = group_plans([("test", cycle.plan(cycle.tables[scenario.table]))])
        assert not spark.ask("move_with_faults", plan.to_json(), dies, str(scenario.workbench.wake_file), 1)
        cycle.commit(cycle.tables[scenario.table])
    assert "planned and not published" in scenario.check()
    scenario.k2("run", scenario.table)
    scenario.make_older(timedelta(hours=23))
    scenario.insert(timedelta(minutes=10))
    scenario.k2("run", scenario.table)
    assert scenario.is_quiet("K2StagedLeftovers")
    scenario.make_older(timedelta(hours=2))
    scenario.fires("K2StagedLeftovers")
    scenario.fix()
    assert not scenario.is_quiet("K2StagedLeftovers"), "they are younger than snapshot_retention_days"
    scenario.use(scenario.entry(snapshot_retention_days=1))
    scenario.fix()
    scenario.clears("K2StagedLeftovers")
    while scenario.workbench.move(scenario.cycle, scenario.table):  # its windows were made smaller
        pass
    scenario.verify()
    scenario.tables_equal()


def test_closed_days_have_thousands_of_small_files(runbook):
    scenario = runbook("maintenance.md#there-are-many-small-files", rows=0)
    assert scenario.scatter(days=7) > 2000
    assert scenario.is_quiet("K2SmallFiles")
    scenario.make_older(timedelta(days=2))
    scenario.fires("K2SmallFiles")
    scenario.check()
    scenario.fix()
    scenario.clears("K2SmallFiles")
    scenario.verify()
    scenario.tables_equal()


def test_no_snapshot_has_expired_for_weeks(runbook):
    scenario = runbook("maintenance.md#metadata-grows")
    scenario.insert(timedelta(minutes=20))
    scenario.k2("run", scenario.table)

    def weeks_before(metadata):
        """As many snapshots as cycles of weeks make, below the oldest that there is."""
        [oldest] = [each for each in metadata["snapshots"] if "parent-snapshot-id" not in each]
        cycles = timedelta(minutes=15) // timedelta(milliseconds=1)
        ago = [oldest["timestamp-ms"] - cycles * number for number in range(MAX_SNAPSHOTS, 0, -1)]
        older = [
            oldest | {"snapshot-id": 1 + at, "parent-snapshot-id": 1 + at - cycles, "timestamp-ms": at} for at in ago
        ]
        del older[0]["parent-snapshot-id"]
        oldest["parent-snapshot-id"] = older[-1]["snapshot-id"]
        metadata["snapshots"][:0] = older
        metadata["snapshot-log"][:0] = [{key: each[key] for key in ("timestamp-ms", "snapshot-id")} for each in older]

    assert scenario.is_quiet("K2MetadataGrows")
    assert scenario.is_quiet("K2MaintenanceOverdue")
    scenario.make_older(timedelta(days=7), weeks_before)
    scenario.fires("K2MetadataGrows")
    scenario.fires("K2MaintenanceOverdue")
    assert "maintenance is overdue" in scenario.check()
    scenario.fix()
    scenario.clears("K2MetadataGrows")
    scenario.clears("K2MaintenanceOverdue")
    scenario.verify()
    scenario.tables_equal()
