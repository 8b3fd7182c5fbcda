"""``k2 heal``: shows the days that differ, and replaces them through the DAG k2_reconcile."""

from __future__ import annotations

from datetime import timedelta

from tests.stack.k2_offload.cli.conftest import START


def late_rows(shell, table):
    shell.workbench.insert_trades(table, START - timedelta(minutes=1), 3, start_sequence=10**6)


def test_late_rows_are_shown_and_healed_by_the_dag(shell, moved):
    assert all(day["result"] == "equal" for day in shell.json("heal"))
    late_rows(shell, moved)
    shown = shell.k2("heal", moved, "--dry-run", exit_code=1)
    assert "late rows" in shown.stdout
    assert "3 rows only in ClickHouse, 0 only in the cold table" in " ".join(shown.stderr.split())
    healed = shell.json("heal", moved, "--yes")
    assert {day["result"] for day in healed} == {"equal"}
    assert "late rows" in {day["found"] for day in healed}
    assert shell.workbench.cold_rows(moved) == shell.workbench.warm_rows(moved)


def test_rows_go_only_if_a_person_names_the_day(shell, moved):
    day = START.date().isoformat()
    shell.workbench.sql(f"ALTER TABLE {moved} DELETE WHERE sequence = 7 SETTINGS mutations_sync = 2")
    refused = shell.k2("heal", moved, "--yes", exit_code=1)
    assert "It was not healed, because 1 rows of the cold tier are not in the warm tier" in " ".join(
        refused.stderr.split()
    )
    assert "needs the names of tables, and --day" in shell.k2("heal", "--allow-shrink", exit_code=2).stderr
    assert "is no day" in shell.k2("heal", moved, "--day", "yesterday", exit_code=2).stderr
    [healed] = shell.json("heal", moved, "--day", day, "--allow-shrink", "--yes")
    assert (healed["result"], healed["gone_rows"]) == ("equal", 0)
    assert shell.workbench.cold_rows(moved) == shell.workbench.warm_rows(moved)
