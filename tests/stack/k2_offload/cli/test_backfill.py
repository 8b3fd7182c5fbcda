"""``k2 backfill``: shown before it is brought, brought by the DAG, and nothing to do the second time."""

from __future__ import annotations

from datetime import timedelta

from k2_offload.core.windows import format_time
from tests.stack.k2_offload.cli.conftest import START


def test_what_was_skipped_is_shown_and_brought(shell):
    table = shell.workbench.create_trades()
    shell.workbench.insert_trades(table, START, 1000)
    spec = shell.workbench.spec(table)
    shell.tables(spec)
    assert "holds no window yet" in shell.k2("backfill", table, exit_code=1).stderr
    shell.k2("watermark", "set", table, format_time(START + timedelta(seconds=600)), "--yes")
    shell.workbench.move(shell.workbench.cycle(spec), table)

    shown = shell.json("backfill", table, "--dry-run")
    assert (shown["rows_left_out"], shown["filled"]) == (600, [])
    assert sum(shell.workbench.cold_rows(table).values()) == 400
    later = format_time(START + timedelta(days=1))
    assert "lies above the watermark" in shell.k2("backfill", table, "--to", later, exit_code=1).stderr

    brought = shell.json("backfill", table, "--max-rows", "400")
    assert (brought["rows_left_out_before"], brought["rows_left_out"], brought["left_out"]) == (600, 0, [])
    assert shell.workbench.cold_rows(table) == shell.workbench.warm_rows(table)
    assert "There is nothing to bring" in shell.k2("backfill", table).stdout


def test_the_first_run_says_what_it_leaves_to_a_backfill(shell):
    table = shell.workbench.create_trades()
    shell.workbench.insert_trades(table, START, 1000)
    shell.tables(shell.workbench.spec(table, history="backfill"))
    ran = shell.json("run")
    assert [layer["state"] for layer in ran["layers"]] == ["success"]
    [shown] = ran["tables"]
    assert (shown["table"], shown["state"], shown["rows"]) == (table, "left_out", 1000)
    assert (shown["low"], shown["high"]) == ("2000-01-01T00:00:00.000000Z", shell.json("status")[0]["watermark"])
    assert shell.json("backfill", table, "--dry-run")["rows_left_out"] == 1000
    [again] = shell.json("run")["tables"]
    assert again["state"] == "nothing_new"
