from __future__ import annotations

from datetime import UTC, datetime

import pytest

from k2_offload.core.errors import ConfigurationError
from k2_offload.core.maintenance import Folder, Tidied
from k2_offload.core.maintenance_plan import (
    MaintenancePlan,
    PlannedMaintenance,
    report_from_json,
    report_to_json,
)

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
PLANNED = PlannedMaintenance(
    table="trades",
    target="cold.trades",
    table_uuid="uuid",
    partition_column="at",
    sort_columns=("symbol", "at"),
    target_file_bytes=1,
    closed_before=NOON,
    expire_before=NOON,
    orphans_before=NOON,
)


def test_a_plan_travels_as_text():
    plan = MaintenancePlan((PLANNED,), dry_run=True)
    assert MaintenancePlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 1, "tables": [{}], "dry_run": false}'])
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(ConfigurationError, match="not a maintenance plan"):
        MaintenancePlan.from_json(text)


def test_a_plan_of_another_version_is_refused():
    with pytest.raises(ConfigurationError, match="of version 0, this job reads 1"):
        MaintenancePlan.from_json('{"version": 0}')


def test_a_report_travels_as_text():
    report = [
        Tidied("trades", Folder(9, 8, 7, 6), Folder(5, 4, 3, 2), 1, 2, 3, 4, 0.5, ["why", "differs"], ["differs"])
    ]
    assert report_from_json(report_to_json(report)) == report
