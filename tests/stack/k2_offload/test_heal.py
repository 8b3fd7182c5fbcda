"""Days that differ are found, named and healed, or refused, on the real stack."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlparse

import pytest

from k2_offload.core.day_comparison import Verdict, day_window
from k2_offload.core.exactly_once import watermark_of
from k2_offload.core.windows import Window
from k2_offload.work.changes import find_changes
from k2_offload.work.compare import compare_day, count_days
from k2_offload.work.reconcile import plan_heal, reconcile

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = NOON.date()
LATER = NOON + timedelta(hours=20)


@pytest.fixture
def moved(workbench):
    """A table of two days, moved in one window: several files."""
    return moved_table(workbench, (0, 2, 11.9))


@pytest.fixture
def moved_in_windows(workbench):
    """The same, moved in three windows."""
    return moved_table(workbench, (0,), (2,), (11.9,))


def moved_table(workbench, *windows):
    table = workbench.create_trades()
    for window in windows:
        for hours in window:
            workbench.insert_trades(table, NOON + timedelta(hours=hours), 400)
        cycle = workbench.cycle(workbench.spec(table, max_file_rows=500), now=NOON + timedelta(hours=window[-1] + 0.2))
        workbench.move(cycle, table)
    return workbench.cycle(workbench.spec(table), now=LATER), table


def compare(cycle, table, day=DAY):
    return compare_day(cycle.tiers, count_days(cycle.tiers, cycle.tables[table]), day)


def planned_heal(cycle, table, day=DAY):
    days = count_days(cycle.tiers, cycle.tables[table])
    comparison = compare_day(cycle.tiers, days, day)
    assert comparison.obstacle() is None
    return plan_heal(days, comparison, ledger_id=None)


def below_watermark(workbench, cycle, table):
    return workbench.warm_rows(table, until=watermark_of(cycle.catalog.load(cycle.tables[table]).published))


def add_late_rows(workbench, table, count=3):
    workbench.insert_trades(table, NOON - timedelta(hours=1), count, start_sequence=10**6)


def test_late_rows_are_healed_and_the_next_window_follows(workbench, moved_in_windows):
    cycle, table = moved_in_windows
    watermark = watermark_of(cycle.catalog.load(cycle.tables[table]).published)
    assert compare(cycle, table).verdict is Verdict.EQUAL
    add_late_rows(workbench, table)
    found = compare(cycle, table)
    assert (found.verdict, found.late_rows, found.gone_rows, found.shrunk_rows) == (Verdict.LATE_ROWS, 3, 0, None)
    first = NOON - timedelta(hours=1)
    assert found.differing == Window(first, first + timedelta(seconds=2, microseconds=1))

    planned, spec = planned_heal(cycle, table), cycle.tables[table]
    assert list(find_changes(cycle.tiers, spec, {planned.heal_id})) == []
    assert f"{DAY}: healed" in workbench.publish(planned)
    [told] = find_changes(cycle.tiers, spec, {planned.heal_id, "of another"})
    assert (told.kind, told.window, told.rows) == ("heal", day_window(DAY), planned.rows)
    assert told.snapshot_id == workbench.cold_table(table).metadata.current_snapshot_id
    assert compare(cycle, table).verdict is Verdict.EQUAL
    assert workbench.cold_rows(table) == below_watermark(workbench, cycle, table)
    assert watermark_of(cycle.catalog.load(cycle.tables[table]).published) == watermark
    workbench.move(cycle, table)
    workbench.check(cycle, [table])


def test_spark_heals_too(workbench):
    table = workbench.create_trades()
    cycle = workbench.cycle(workbench.spec(table, transport="jdbc"), now=LATER)
    workbench.insert_trades(table, NOON, 100)
    workbench.move(cycle, table)
    add_late_rows(workbench, table)
    workbench.publish(planned_heal(cycle, table))
    workbench.check(cycle, [table])


def test_a_heal_done_twice_changes_nothing(workbench, moved):
    cycle, table = moved
    add_late_rows(workbench, table)
    planned = planned_heal(cycle, table)
    workbench.publish(planned)
    snapshots = len(workbench.cold_table(table).metadata.snapshots)
    assert "this day was healed meanwhile" in workbench.publish(planned)
    assert len(workbench.cold_table(table).metadata.snapshots) == snapshots
    assert workbench.cold_rows(table) == below_watermark(workbench, cycle, table)


def test_a_day_of_which_nothing_was_cold_is_healed_once(workbench, moved):
    cycle, table = moved
    before = DAY - timedelta(days=1)
    workbench.insert_trades(table, NOON - timedelta(days=1), 5, start_sequence=10**6)
    planned = planned_heal(cycle, table, day=before)
    assert planned.files == ()
    workbench.publish(planned)
    assert "this day was healed meanwhile" in workbench.publish(planned)
    assert workbench.cold_rows(table) == below_watermark(workbench, cycle, table)


def test_a_heal_beside_a_new_window_loses_neither(workbench, moved_in_windows):
    cycle, table = moved_in_windows
    add_late_rows(workbench, table)
    planned = planned_heal(cycle, table, day=DAY)
    workbench.insert_trades(table, NOON + timedelta(hours=12.5), 100)
    workbench.move(cycle, table)
    workbench.publish(planned)
    workbench.check(cycle, [table])


def test_a_compaction_meanwhile_stops_a_heal(workbench, moved):
    cycle, table = moved
    add_late_rows(workbench, table)
    planned = planned_heal(cycle, table)
    workbench.compact(table)
    assert "files of that day were replaced meanwhile" in workbench.publish(planned)
    workbench.publish(planned_heal(cycle, table))
    assert workbench.cold_rows(table) == below_watermark(workbench, cycle, table)


def test_rows_that_another_writer_deletes_stop_a_heal(workbench, moved):
    """By a delete file: all files that are to be replaced are still there."""
    cycle, table = moved
    add_late_rows(workbench, table)
    planned = planned_heal(cycle, table)
    name = cycle.catalog.load(cycle.tables[table]).rollback_statement(0).split()[1].split(".")[0] + f".cold.{table}"
    workbench.spark.ask("sql", f"ALTER TABLE {name} SET TBLPROPERTIES ('write.delete.mode' = 'merge-on-read')")
    workbench.spark.ask("sql", f"DELETE FROM {name} WHERE sequence = 7")
    output = workbench.publish(planned)
    assert f"{table} {DAY}: rows of this day were deleted in the cold table by another writer" in output
    assert "the next comparison looks at the day anew" in output


def test_a_heal_after_a_rollback_is_refused(workbench, moved_in_windows):
    """Its rows are moved again by the windows that follow, so it would double them."""
    cycle, table = moved_in_windows
    first_window = workbench.cold_table(table).metadata.snapshots[0].snapshot_id
    workbench.insert_trades(table, NOON + timedelta(hours=3), 5, start_sequence=10**6)
    planned = planned_heal(cycle, table)
    workbench.spark.ask("sql", cycle.catalog.load(cycle.tables[table]).rollback_statement(first_window))
    workbench.move(cycle, table)
    assert "is no ancestor of main any more" in workbench.publish(planned)
    workbench.check(cycle, [table])


def test_rows_that_go_while_a_day_is_healed_stop_it(workbench, moved):
    cycle, table = moved
    add_late_rows(workbench, table)
    planned = planned_heal(cycle, table)
    before = workbench.cold_rows(table)
    workbench.sql(f"ALTER TABLE {table} DELETE WHERE sequence = 7 SETTINGS mutations_sync = 2")
    assert "rows have come or gone meanwhile" in workbench.publish(planned)
    assert workbench.cold_rows(table) == before


def test_a_row_that_is_gone_from_warm_is_named_and_kept(workbench, moved):
    cycle, table = moved
    workbench.sql(f"ALTER TABLE {table} DELETE WHERE sequence = 7 SETTINGS mutations_sync = 2")
    found = compare(cycle, table)
    assert (found.verdict, found.late_rows, found.gone_rows) == (Verdict.COLD_HAS_MORE, 0, 3)
    assert found.obstacle() == "3 rows of the cold tier are not in the warm tier"
    assert found.obstacle(3) is None


def test_a_row_that_was_changed_is_named_and_kept(workbench, moved):
    cycle, table = moved
    workbench.sql(
        f"ALTER TABLE {table} UPDATE note = '' WHERE note IS NULL AND sequence = 3 SETTINGS mutations_sync = 2"
    )
    found = compare(cycle, table)
    assert (found.verdict, found.late_rows, found.gone_rows) == (Verdict.CHANGED_ROWS, 3, 3)
    assert "not in the warm tier" in found.obstacle()


def test_a_file_that_is_gone_is_named(workbench, moved_in_windows):
    cycle, table = moved_in_windows
    task = next(iter(workbench.cold_table(table).scan().plan_files()))
    Path(urlparse(task.file.file_path).path).unlink()
    found = compare(cycle, table)
    assert found.verdict is Verdict.UNREADABLE
    assert found.obstacle() == "what the cold tier holds of it cannot be read"


def test_a_day_half_expired_is_compared_and_not_healed(workbench, moved):
    _, table = moved
    workbench.sql(f"ALTER TABLE {table} DELETE WHERE at < '2026-03-04 13:00:00' SETTINGS mutations_sync = 2")
    late = workbench.cycle(workbench.spec(table), now=NOON + timedelta(days=7, hours=1))
    assert compare(late, table).verdict is Verdict.EXPIRED
    workbench.insert_trades(table, NOON + timedelta(hours=3), 2, start_sequence=10**6)
    found = compare(late, table)
    assert (found.verdict, found.late_rows, found.gone_rows) == (Verdict.LATE_ROWS, 2, 400)
    assert "may no longer hold the day as a whole" in found.obstacle(400)

    def on_record():
        list(reconcile(late.tiers, [late.tables[table]]))
        return late.ledger.read_days(table)[DAY].verdict, late.ledger.read_comparisons()[table].unequal[0].late_rows

    assert on_record() == (Verdict.LATE_ROWS, 2)
    workbench.sql(f"ALTER TABLE {table} DELETE WHERE sequence >= 1000000 SETTINGS mutations_sync = 2")
    assert compare(late, table).verdict is Verdict.EXPIRED
    assert on_record() == (Verdict.LATE_ROWS, 2), "the TTL has taken them, too"


def test_a_day_that_cannot_be_read_is_told_of_after_the_ttl_has_reached_it(workbench, moved):
    _, table = moved
    late = workbench.cycle(workbench.spec(table), now=NOON + timedelta(days=7, hours=1))
    workbench.insert_trades(table, NOON + timedelta(hours=3), 2, start_sequence=10**6)

    def on_record():
        list(reconcile(late.tiers, [late.tables[table]]))
        differing = late.ledger.read_comparisons()[table].differing
        return late.ledger.read_days(table)[DAY].verdict, [each.late_rows for each in differing]

    assert on_record() == (Verdict.LATE_ROWS, []), "left out"
    [file] = [
        Path(urlparse(task.file.file_path).path)
        for task in workbench.cold_table(table).scan("at < '2026-03-04T12:05:00+00:00'").plan_files()
    ]
    content = file.read_bytes()
    file.unlink()
    assert on_record() == (Verdict.UNREADABLE, [2]), "what is on record stays there"
    workbench.sql(f"ALTER TABLE {table} DELETE WHERE at < '2026-03-05' SETTINGS mutations_sync = 2")
    assert on_record() == (Verdict.UNREADABLE, [2])
    file.write_bytes(content)
    assert on_record() == (Verdict.LATE_ROWS, [])
    file.unlink()
    workbench.cold_catalog.load_table(f"cold.{table}").delete(
        "at >= '2026-03-04T00:00:00+00:00' and at < '2026-03-05T00:00:00+00:00'"
    )
    assert on_record() == (Verdict.LATE_ROWS, []), "both copies are lost, and taken out"


def skip(cycle, table, window):
    """Let the chain of snapshots say that a range was skipped, whatever the table holds of it."""
    cold = cycle.catalog.load(cycle.tables[table])
    cold.publish_without_rows(cold.published.window_id, "at", skips=cold.skips.skipping(window), ledger_id=None)


def test_what_was_skipped_is_left_alone(workbench, moved):
    cycle, table = moved
    skip(cycle, table, Window(NOON - timedelta(hours=2), NOON - timedelta(hours=1)))
    workbench.insert_trades(table, NOON - timedelta(hours=1.5), 3, start_sequence=10**6)
    assert compare(cycle, table).verdict is Verdict.EQUAL
    skip(cycle, table, Window(NOON, NOON + timedelta(seconds=4)))
    assert compare(cycle, table).verdict is Verdict.LEFT_OUT
    add_late_rows(workbench, table)
    assert "skipped on purpose, and would go too" in compare(cycle, table).obstacle(100)


def test_candles_are_healed_only_if_none_loses_a_trade(workbench):
    table = f"{workbench.name}_candles"
    workbench.sql(
        f"CREATE TABLE {table} (at DateTime64(6, 'UTC'), exchange String, symbol String, trades UInt64) "
        "ENGINE = ReplacingMergeTree ORDER BY (exchange, symbol, at)"
    )
    rows = [(NOON + timedelta(minutes=minute), exchange, "A/B", 10) for minute in range(5) for exchange in ("x", "y")]
    workbench.sql(f"INSERT INTO {table} VALUES", rows)
    spec = workbench.spec(
        table, sequence_column=None, sort_columns="[symbol, at]", key_columns="[exchange, symbol, at]",
        version_column="trades", final="true",
    )  # fmt: skip
    cycle = workbench.cycle(spec, now=LATER)
    workbench.move(cycle, table)
    workbench.sql(f"INSERT INTO {table} VALUES", [(NOON, "x", "A/B", 11)])
    found = compare(cycle, table)
    assert (found.verdict, found.late_rows, found.gone_rows, found.shrunk_rows) == (Verdict.CHANGED_ROWS, 1, 1, 0)
    workbench.publish(planned_heal(cycle, table))
    assert compare(cycle, table).verdict is Verdict.EQUAL
    workbench.sql(f"INSERT INTO {table} VALUES", [(NOON, "x", "A/B", 12), (NOON, "y", "A/B", 9)])
    assert compare(cycle, table).obstacle() == "1 candles would lose trades, or have other values with as many"


def test_a_column_of_candles_that_was_dropped_and_added_again_costs_no_value(workbench):
    table = f"{workbench.name}_refilled"
    workbench.sql(
        f"CREATE TABLE {table} (at DateTime64(6, 'UTC'), symbol String, volume Float64, trades UInt64) "
        "ENGINE = ReplacingMergeTree ORDER BY (symbol, at)"
    )
    workbench.sql(
        f"INSERT INTO {table} VALUES", [(NOON + timedelta(minutes=each), "A/B", 2.5, 10) for each in range(5)]
    )
    spec = workbench.spec(
        table, sequence_column=None, sort_columns="[symbol, at]", key_columns="[symbol, at]", version_column="trades",
        final="true",
    )  # fmt: skip
    cycle = workbench.cycle(spec, now=LATER)
    workbench.move(cycle, table)
    workbench.sql(f"ALTER TABLE {table} DROP COLUMN volume")
    workbench.sql(f"ALTER TABLE {table} ADD COLUMN volume Float64 AFTER symbol")
    found = compare(cycle, table)
    assert (found.verdict, found.shrunk_rows) == (Verdict.CHANGED_ROWS, 5)
    assert found.obstacle() is not None
    [found] = reconcile(cycle.tiers, [cycle.tables[table]])
    assert found.heals == ()
    assert "have other values" in found.problems[0]
