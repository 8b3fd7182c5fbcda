"""``k2 maintain``: tidies cold tables through the DAG k2_maintenance."""

from __future__ import annotations


def test_a_table_is_tidied_by_the_dag_and_a_dry_run_only_looks(shell, moved):
    [would] = shell.json("maintain", moved, "--dry-run")
    assert (would["table"], would["problem"], would["files_after"]) == (moved, None, would["files_before"])
    assert shell.workbench.cold_rows(moved) == shell.workbench.warm_rows(moved)
    shown = shell.k2("maintain", moved).stdout
    assert moved in shown
    assert "days rewritten" in " ".join(shown.split())
    assert shell.workbench.cold_rows(moved) == shell.workbench.warm_rows(moved)


def test_a_dry_run_is_no_real_one_where_airflow_keeps_it_from_the_tasks(shell, moved):
    off = {"AIRFLOW__CORE__DAG_RUN_CONF_OVERRIDES_PARAMS": "False"}
    said = " ".join(shell.k2("maintain", moved, "--dry-run", exit_code=1, **off).stderr.split())
    assert "[core] dag_run_conf_overrides_params is off. Nothing was changed." in said
    assert moved not in shell.workbench.cycle(shell.workbench.spec(moved)).ledger.last_maintained()
