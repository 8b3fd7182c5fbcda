"""The plan travels as JSON and groups tables by job."""

from __future__ import annotations

import pytest

from k2_offload.core.errors import ConfigurationError
from k2_offload.core.plan import Plan, PlannedColumn, PlannedHeal, PlannedWindow, RefusedTable, group_plans


def rows(name):
    return {
        "table": name,
        "target": f"cold.{name}",
        "rows": 9,
        "cut_on": "t",
        "transport": "export",
        "partition_field": "t_day",
        "columns": (PlannedColumn("t", "timestamptz"), PlannedColumn("price", "decimal(38, 18)")),
        "max_file_rows": 5,
        "parallel_exports": 2,
        "rows_per_slot_sql": "SELECT 'ä'",
        "select_split_sql": "SELECT 1",
        "column_types_sql": "SELECT 2",
        "ledger_id": "one",
        "replicated": ("k2.b", "k2.c"),
        "longest_delay_seconds": 300,
    }


def planned(name):
    return PlannedWindow(**rows(name), window_id="k2/u/a/b")


def planned_heal(name):
    return PlannedHeal(
        **rows(name), heal_id="k2-heal/u/2026-03-04/7", partition_column="t", content_hash=2**64 - 1, files=("/a", "/b")
    )


def test_a_plan_survives_json():
    plan = Plan("gold", (planned("a"), planned("b")), (RefusedTable("c", "no such source"),), (planned_heal("d"),))
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version":1}', '{"version":2,"tables":[]}', '{"version":1,"windows":[]}']
)
def test_anything_else_is_refused(text):
    with pytest.raises(ConfigurationError, match="plan"):
        Plan.from_json(text)


def test_one_application_per_job_group_also_for_what_it_cannot_move():
    refused = RefusedTable("d", "no such source")
    plans = group_plans(
        [("x", planned("a")), ("y", planned("b")), ("x", planned("c")), ("y", refused), ("y", planned_heal("e"))]
    )
    assert plans == [
        Plan("x", (planned("a"), planned("c"))),
        Plan("y", (planned("b"),), (refused,), (planned_heal("e"),)),
    ]
