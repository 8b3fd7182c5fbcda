"""``k2 watermark set``: forward only, nothing moved twice, and never past somebody who was faster."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from k2_offload.core.errors import StaleWindow, Unreachable
from k2_offload.core.exactly_once import PUBLISHED_BRANCH, WindowId
from k2_offload.core.gaps import GapKind
from k2_offload.core.windows import format_time
from k2_offload.work.watermarks import find_skip, skip
from tests.faults.output import Output
from tests.stack.k2_offload.cli.conftest import START


def state_of(shell, table):
    [row] = shell.json("status", table)
    return row["status"], row["window_state"], row["watermark"]


def test_a_newcomer_starts_at_a_date(shell):
    table = shell.workbench.create_trades()
    shell.workbench.insert_trades(table, START, 1000)
    spec = shell.workbench.spec(table)
    shell.tables(spec)
    beginning = START + timedelta(seconds=600)

    planned = shell.json("watermark", "set", table, format_time(beginning), "--dry-run")
    assert planned == {
        "table": table,
        "watermark_before": "2000-01-01T00:00:00.000000Z",
        "watermark": format_time(beginning),
        "rows_left_in_clickhouse": 600,
        "changed": False,
    }
    cycle = shell.workbench.cycle(spec)
    assert cycle.catalog.load(cycle.tables[table]) is None
    assert "Nothing was changed" in shell.k2("watermark", "set", table, format_time(beginning), exit_code=1).stderr
    assert cycle.catalog.load(cycle.tables[table]) is None

    assert shell.json("watermark", "set", table, format_time(beginning), "--yes")["changed"]
    shown = shell.json("watermark", "show", table)
    assert shown["cold_watermark"] == shown["ledger_watermark"] == format_time(beginning)
    again = shell.k2("watermark", "set", table, format_time(beginning))
    assert "There is nothing to change" in again.stdout

    shell.workbench.move(shell.workbench.cycle(spec), table)
    assert shell.workbench.cold_rows(table) == shell.workbench.warm_rows(table) - shell.workbench.warm_rows(
        table, until=beginning
    )
    assert shell.json("status")[0]["late_rows"] == 600


def test_a_window_that_is_open_is_abandoned_and_its_job_publishes_nothing(shell):
    beyond, same = (shell.workbench.create_trades(suffix) for suffix in ("beyond", "same"))
    specs = [shell.workbench.spec(table) for table in (beyond, same)]
    shell.tables(*specs)
    for table in (beyond, same):
        shell.workbench.insert_trades(table, START, 1000)
    cycle = shell.workbench.cycle(*specs)
    planned = [cycle.plan(cycle.tables[table]) for table in (beyond, same)]
    high = shell.json("watermark", "show", same)["open_window_high"]
    assert shell.json("watermark", "set", same, high, "--yes")["changed"]
    assert shell.json("watermark", "set", beyond, format_time(START + timedelta(hours=1)), "--yes")["changed"]
    for table in (beyond, same):
        assert state_of(shell, table)[:2] == ("initialized", None)

    code, output = shell.workbench.run_job(*planned)
    assert code == 1
    assert "Nothing was published and no row is lost" in output
    assert not any(shell.workbench.cold_rows(table) for table in (beyond, same))
    for table in (beyond, same):
        shell.workbench.insert_trades(table, START + timedelta(hours=2), 10)
    shell.workbench.move(shell.workbench.cycle(*specs), beyond, same)
    assert [sum(shell.workbench.cold_rows(table).values()) for table in (beyond, same)] == [10, 10]


def test_going_back_is_refused_and_the_way_that_is_named_moves_everything_again_once(shell, moved):
    spec = shell.workbench.spec(moved)
    first = shell.json("watermark", "show", moved)
    shell.workbench.insert_trades(moved, START + timedelta(hours=1), 500)
    shell.workbench.move(shell.workbench.cycle(spec), moved)
    before = shell.workbench.cold_rows(moved)

    too_early = shell.k2("watermark", "set", moved, format_time(START), "--yes", exit_code=1)
    assert "a second time" in too_early.stderr
    assert "none is left" in too_early.stderr
    refusal = shell.k2("watermark", "set", moved, format_time(START + timedelta(hours=1)), "--yes", exit_code=1).stderr
    assert shell.workbench.cold_rows(moved) == before
    [statement] = re.findall(r"CALL \S+\('\S+', \d+\)", refusal)
    assert statement.endswith(f".system.rollback_to_snapshot('cold.{moved}', {first['snapshot_id']})")
    assert first["cold_watermark"] in refusal

    shell.workbench.spark.ask("sql", statement)
    assert sum(shell.workbench.cold_rows(moved).values()) == 1000
    assert shell.workbench.move(shell.workbench.cycle(spec), moved)
    assert shell.workbench.cold_rows(moved) == shell.workbench.warm_rows(moved) == before


def test_where_clickhouse_no_longer_has_the_rows_going_back_is_not_recommended(shell):
    table = shell.workbench.create_trades()
    spec = shell.workbench.spec(table)
    shell.tables(spec)
    long_ago = START - timedelta(days=30)
    assert shell.json("watermark", "set", table, f"{long_ago:%Y-%m-%d}", "--yes")["changed"]
    assert shell.json("watermark", "set", table, format_time(START), "--yes")["changed"]
    refusal = shell.k2("watermark", "set", table, format_time(START - timedelta(days=1)), exit_code=1).stderr
    assert "Going back would lose them" in refusal
    assert "CALL" not in refusal


class CutOff:
    """A cold table; as soon as it has published a skip, the ledger's connection is gone."""

    def __init__(self, cold, dsn):
        self._cold, self._dsn = cold, dsn

    def __getattr__(self, name):
        return getattr(self._cold, name)

    def publish_without_rows(self, *what, **how):
        self._cold.publish_without_rows(*what, **how)
        holders = "SELECT pid FROM pg_locks WHERE relation = 'k2_offload.offload_watermarks'::regclass"
        with psycopg.connect(self._dsn) as connection:
            ended = connection.execute(f"SELECT pg_terminate_backend(pid) FROM ({holders} AND granted) AS holders")
            assert ended.rowcount > 0


@pytest.mark.parametrize("open_window", [False, True])
def test_a_skip_is_on_record_once_though_the_ledger_died(shell, moved, open_window):
    spec = shell.workbench.spec(moved)
    shell.workbench.insert_trades(moved, START + timedelta(hours=1), 10)
    cycle = shell.workbench.cycle(spec)
    tiers, table = cycle.tiers, cycle.tables[moved]
    planned = cycle.plan(table) if open_window else None
    end = WindowId.parse(planned.window_id).window.high if planned else START + timedelta(hours=2)
    found = find_skip(tiers, table, end)
    with pytest.raises(Unreachable):
        skip(tiers, table, replace(found, cold=CutOff(found.cold, shell.workbench.stack.ledger_dsn)))
    assert tiers.ledger.read_gaps().get(moved, []) == []

    for _ in range(2):
        assert cycle.plan(table) is None
        cycle.commit(table)
        [gap] = tiers.ledger.read_gaps()[moved]
        assert (gap.window, gap.kind, gap.rows) == (found.window, GapKind.SKIPPED, 10)
    shell.workbench.insert_trades(moved, START + timedelta(hours=2), 10)
    assert shell.workbench.move(shell.workbench.cycle(spec), moved)
    assert len(tiers.ledger.read_gaps()[moved]) == 1
    assert sum(shell.workbench.cold_rows(moved).values()) == 1010


def test_the_future_is_refused(shell, moved):
    before = state_of(shell, moved)
    result = shell.k2("watermark", "set", moved, "2999-01-01", "--yes", exit_code=1)
    assert "is in the future; ClickHouse's clock says" in result.stderr
    assert state_of(shell, moved) == before


def test_a_job_that_publishes_while_a_person_thinks_wins(shell, moved):
    spec = shell.workbench.spec(moved)
    shell.workbench.insert_trades(moved, START + timedelta(hours=1), 10)
    process = subprocess.Popen(
        ["k2", "watermark", "set", moved, format_time(START + timedelta(hours=2))],
        env={**shell.environment, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = Output(process)
    output.wait_for("lie between")
    shell.workbench.move(shell.workbench.cycle(spec), moved)
    watermark = shell.json("watermark", "show", moved)["cold_watermark"]
    process.stdin.write("y\n")
    process.stdin.close()
    code, text = output.wait_for_end()
    assert code == 1
    assert "another writer committed to the cold table meanwhile. Nothing was changed." in text
    shown = shell.json("watermark", "show", moved)
    assert shown["cold_watermark"] == shown["ledger_watermark"] == watermark
    assert shell.workbench.cold_rows(moved) == shell.workbench.warm_rows(moved)


def test_a_snapshot_without_rows_is_never_put_on_top_of_what_was_not_seen(shell, moved):
    """The catalog's client would try again on top of whatever it finds there."""
    cycle = shell.workbench.cycle(shell.workbench.spec(moved))
    seen = cycle.catalog.load(cycle.tables[moved])
    with shell.cold(moved).transaction() as transaction:
        transaction.update_snapshot().fast_append().commit()
    refs = shell.cold(moved).metadata.refs
    with pytest.raises(StaleWindow, match="another writer committed"):
        seen.publish_without_rows(seen.published.window_id, "at", ledger_id=None)
    after = shell.cold(moved).metadata
    assert after.refs == refs
    assert "commit.retry.num-retries" not in after.properties

    now = cycle.catalog.load(cycle.tables[moved])
    now.publish_without_rows(now.published.window_id, "at", ledger_id=None)
    after = shell.cold(moved).metadata
    assert after.refs[PUBLISHED_BRANCH].snapshot_id == after.current_snapshot_id
    assert "commit.retry.num-retries" not in after.properties


def test_a_cold_table_that_was_dropped_is_not_started_anew_unasked(shell, moved):
    shell.cold(moved).catalog.drop_table(f"cold.{moved}")
    result = shell.k2("watermark", "set", moved, format_time(START + timedelta(hours=1)), "--yes", exit_code=1)
    assert f"k2 watermark rebuild {moved}" in result.stderr
    cycle = shell.workbench.cycle(shell.workbench.spec(moved))
    assert cycle.catalog.load(cycle.tables[moved]) is None
    assert shell.json("watermark", "rebuild", moved, "--yes")["cold_table_uuid"] is None
    assert cycle.catalog.load(cycle.tables[moved]).total_rows == 0
    assert shell.json("watermark", "set", moved, format_time(START + timedelta(hours=1)), "--yes")["changed"]
