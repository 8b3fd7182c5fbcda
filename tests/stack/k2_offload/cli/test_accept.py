"""``k2 accept``: shows what is gone, asks, and puts it on record."""

from __future__ import annotations

from datetime import timedelta

from tests.stack.k2_offload.cli.conftest import START


def test_rows_that_are_gone_are_shown_then_accepted_and_stay_on_record(shell, moved):
    assert shell.json("accept", moved) == {"table": moved, "gaps": [], "accepted": False}
    workbench = shell.workbench
    workbench.insert_trades(moved, START + timedelta(minutes=30), 24, start_sequence=5000)
    cycle = workbench.cycle(workbench.spec(moved))
    assert cycle.plan(cycle.tables[moved]).rows == 24
    workbench.sql(f"ALTER TABLE {moved} DELETE WHERE sequence >= 5004 SETTINGS mutations_sync = 2")

    shown = shell.k2("accept", moved, "--dry-run").stdout
    assert "holds 4 rows, 20 fewer than were planned" in shown
    [gap] = shell.json("accept", moved, "--yes")["gaps"]
    assert (gap["kind"], gap["rows_missed"], gap["rows_left"]) == ("fewer rows", 20, 4)
    workbench.move(cycle, moved)
    assert workbench.cold_rows(moved) == workbench.warm_rows(moved)
    assert "20 rows missed" in shell.k2("status", moved).stdout
