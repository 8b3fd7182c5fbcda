"""The plan travels as JSON and groups tables by job."""

from __future__ import annotations

import pytest

from k2_offload.core.errors import ConfigurationError
from k2_offload.core.plan import Plan, PlannedColumn, PlannedWindow, RefusedTable, group_plans


def planned(name):
    columns = (PlannedColumn("t", "timestamptz"), PlannedColumn("price", "decimal(38, 18)"))
    return PlannedWindow(
        name, f"cold.{name}", "k2/u/a/b", 9, "t", "export", "t_day", columns, 5, 2, "SELECT 'ä'", "SELECT 1"
    )


def test_a_plan_survives_json():
    plan = Plan("gold", (planned("a"), planned("b")), (RefusedTable("c", "no such source"),))
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version":1}', '{"version":2,"tables":[]}', '{"version":1,"windows":[]}']
)
def test_anything_else_is_refused(text):
    with pytest.raises(ConfigurationError, match="plan"):
        Plan.from_json(text)


def test_one_application_per_job_group_also_for_what_it_cannot_move():
    refused = RefusedTable("d", "no such source")
    plans = group_plans([("x", planned("a")), ("y", planned("b")), ("x", planned("c")), ("y", refused)])
    assert plans == [
        Plan("x", (planned("a"), planned("c"))),
        Plan("y", (planned("b"),), (refused,)),
    ]
