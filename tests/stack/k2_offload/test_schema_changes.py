"""The source's columns change: the cold table follows or stops, and old files stay readable, on the real stack."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core.day_comparison import Verdict
from k2_offload.core.errors import InvalidSource, OffloadError
from k2_offload.core.exactly_once import WindowId
from k2_offload.core.fault_points import FaultPoint
from k2_offload.work.backfill import find_left_out, plan_backfills, record_nulls
from k2_offload.work.cold_check import check_cold
from k2_offload.work.compare import compare_day, count_days
from k2_offload.work.reconcile import plan_heal, reconcile
from k2_offload.work.schema import apply, follow_source, read_schema, stop_filling
from k2_offload.work.status import read_status
from k2_offload.work.validate import check_source
from k2_offload.work.watermarks import find_skip, skip
from tests.faults.hook import Fault, Kind
from tests.faults.tasks import run_task
from tests.support.cycles import table_file

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=8)


def moved_table(workbench, suffix="trades", **changes):
    """A table whose first 100 rows, from noon on, are cold; and its cycle."""
    table = workbench.create_trades(suffix)
    cycle = workbench.cycle(workbench.spec(table, **changes), now=LATER)
    workbench.insert_trades(table, NOON, 100)
    workbench.move(cycle, table)
    return table, cycle


def alter(workbench, table, change):
    workbench.sql(f"ALTER TABLE {table} {change} SETTINGS mutations_sync = 2")


def insert_more(workbench, table, hours=1, count=100):
    workbench.insert_trades(table, NOON + timedelta(hours=hours), count, start_sequence=1000 * hours)


def day(cycle, table):
    return compare_day(cycle.tiers, count_days(cycle.tiers, cycle.tables[table]), NOON.date())


def values(workbench, table, column):
    """A cold column's values, in the order of the sequence."""
    rows = workbench.cold_table(table).scan().to_arrow().sort_by("sequence")
    return rows.column(column).to_pylist()


def in_cold_order(workbench, table):
    """The source's rows as a multiset, with the cold table's columns."""
    names = ", ".join(workbench.cold_table(table).schema().column_names)
    return Counter(workbench.sql(f"SELECT {names} FROM {table}"))


def test_a_new_column_is_cold_from_the_next_window_on(workbench):
    table, cycle = moved_table(workbench)
    alter(workbench, table, "ADD COLUMN venue LowCardinality(String) DEFAULT 'old' AFTER at, ADD COLUMN fast Bool")
    assert day(cycle, table).verdict is Verdict.EQUAL, "the cold table has not followed yet"
    insert_more(workbench, table)
    workbench.sql(f"ALTER TABLE {table} UPDATE venue = 'new' WHERE sequence >= 1000 SETTINGS mutations_sync = 2")
    workbench.move(cycle, table)
    assert values(workbench, table, "venue") == [None] * 100 + ["new"] * 100
    assert values(workbench, table, "fast") == [None] * 100 + [False] * 100
    assert day(cycle, table).verdict is Verdict.EQUAL, "a DEFAULT of old rows is no difference"

    alter(workbench, table, "UPDATE venue = 'other' WHERE sequence = 1000")
    assert (day(cycle, table).late_rows, day(cycle, table).gone_rows) == (1, 1), "of new rows, it is compared"
    alter(workbench, table, "UPDATE venue = 'new' WHERE sequence = 1000")
    workbench.insert_trades(table, NOON - timedelta(hours=1), 3, start_sequence=9000)
    days = count_days(cycle.tiers, cycle.tables[table])
    found = compare_day(cycle.tiers, days, NOON.date())
    assert (found.verdict, found.late_rows) == (Verdict.LATE_ROWS, 3)
    workbench.publish(plan_heal(days, found, ledger_id=None))
    assert day(cycle, table).verdict is Verdict.EQUAL
    assert workbench.cold_rows(table) == in_cold_order(workbench, table), "the heal brought what ClickHouse says"


def test_a_change_before_any_window_of_it_is_compared(workbench):
    table, cycle = moved_table(workbench)
    alter(workbench, table, "ADD COLUMN venue String DEFAULT 'old'")
    assert [str(change) for change in apply(cycle.tiers, cycle.tables[table])] == ["add venue (string)"]
    assert apply(cycle.tiers, cycle.tables[table]) == []
    assert day(cycle, table).verdict is Verdict.EQUAL
    workbench.insert_trades(table, NOON - timedelta(hours=1), 2, start_sequence=9000)
    [found] = list(reconcile(cycle.tiers, [cycle.tables[table]], [NOON.date()]))
    workbench.publish(*found.heals)
    assert day(cycle, table).verdict is Verdict.EQUAL
    assert values(workbench, table, "venue") == ["old"] * 102, "a heal brings what ClickHouse says"


def test_an_open_window_keeps_its_columns(workbench):
    table, cycle = moved_table(workbench)
    spec = cycle.tables[table]
    insert_more(workbench, table)
    first = cycle.plan(spec)
    alter(workbench, table, "ADD COLUMN venue String DEFAULT 'x', MODIFY COLUMN sequence Nullable(UInt64)")
    done, output = workbench.try_to_publish(first)
    assert not done
    assert "'sequence' was UInt64 in the source when this was planned, and is Nullable(UInt64) by now" in output

    with pytest.raises(OffloadError, match=r"a window is open.*add venue \(string\) waits"):
        apply(cycle.tiers, spec)
    resumed = cycle.plan(spec)
    assert resumed.window_id == first.window_id
    assert "venue" not in [column.name for column in resumed.columns]
    assert not workbench.cold_table(table).schema().find_field("sequence").required, "its rows may need that"
    workbench.publish(resumed)
    cycle.commit(spec)
    insert_more(workbench, table, hours=2)
    workbench.move(cycle, table)
    assert values(workbench, table, "venue") == [None] * 200 + ["x"] * 100
    assert day(cycle, table).verdict is Verdict.EQUAL


def test_wider_types_are_followed_and_old_files_rewritten(workbench):
    table = workbench.create_trades(extra=", hits Int32 DEFAULT 7, ratio Float32 DEFAULT 0.1, fee Decimal(9, 2)")
    cycle = workbench.cycle(workbench.spec(table), now=LATER)
    for hours in range(4):
        insert_more(workbench, table, hours=hours, count=20)
        workbench.move(cycle, table)
    alter(
        workbench,
        table,
        "MODIFY COLUMN hits Int64 DEFAULT 5000000000, MODIFY COLUMN ratio Float64 DEFAULT 0.1, "
        "MODIFY COLUMN fee Decimal(20, 2), ADD COLUMN venue String DEFAULT 'x', ADD COLUMN fast Bool",
    )
    insert_more(workbench, table, hours=4, count=20)
    workbench.move(cycle, table)
    types = {field.name: str(field.field_type) for field in workbench.cold_table(table).schema().fields}
    assert (types["hits"], types["ratio"], types["fee"]) == ("long", "double", "decimal(20, 2)")
    assert values(workbench, table, "hits") == [7] * 80 + [5_000_000_000] * 20
    assert day(cycle, table).verdict is Verdict.EQUAL
    before = workbench.cold_rows(table)
    closed = workbench.cycle(workbench.spec(table), now=LATER + timedelta(days=2))
    assert workbench.maintain(closed, table, closed_before=LATER + timedelta(days=1)).rewritten_days == 1
    assert workbench.cold_rows(table) == before, "old rows are NULL in the new column, rewritten or not"
    assert day(cycle, table).verdict is Verdict.EQUAL
    assert not check_cold(cycle.tiers, cycle.tables[table]).findings


@pytest.mark.parametrize(
    ("column", "change", "words"),
    [
        ("note", "DROP COLUMN note", r"'note' is missing in the source and string.*k2 schema \S+ --stop-filling note"),
        (
            "note",
            "RENAME COLUMN note TO remark",
            r"New in the source: remark. If the column was renamed.*remark AS note",
        ),
        ("price", "MODIFY COLUMN price String", r"'price' is string in the source and decimal.*--stop-filling price"),
    ],
    ids=["dropped", "renamed", "another type"],
)
def test_what_cannot_be_followed_stops_one_table(workbench, column, change, words):
    table, _ = moved_table(workbench)
    other, _ = moved_table(workbench, "other")
    cycle = workbench.cycle(workbench.spec(table), workbench.spec(other), now=LATER)
    spec = cycle.tables[table]
    insert_more(workbench, table)
    insert_more(workbench, other)
    assert cycle.plan(spec) is not None
    alter(workbench, table, change)
    with pytest.raises(InvalidSource, match=words):
        cycle.plan(spec)
    assert read_schema(cycle.tiers, spec).refusals
    assert column in check_source(cycle.tiers, spec).problem
    assert workbench.move(cycle, other) is not None

    with pytest.raises(InvalidSource, match="names column 'symbol' as sort_columns"):
        stop_filling(cycle.tiers, spec, "symbol")
    before = values(workbench, table, column)
    assert stop_filling(cycle.tiers, spec, column)
    assert not stop_filling(cycle.tiers, spec, column)
    workbench.move(cycle, table)
    assert values(workbench, table, column) == before + [None] * 100
    workbench.move(cycle, table)
    assert read_schema(cycle.tiers, spec).changes == []
    assert day(cycle, table).verdict is Verdict.EQUAL
    workbench.sql(
        f"INSERT INTO {table} (at, sequence, symbol, price) SELECT at - INTERVAL 1 HOUR, 9000, symbol, price "
        f"FROM {table} WHERE sequence = 0"
    )
    found = day(cycle, table)
    assert (found.verdict, found.late_rows) == (Verdict.LATE_ROWS, 1)
    assert f"the values of column {column}" in found.obstacle(), "a heal would take them"
    [reconciled] = list(reconcile(cycle.tiers, [spec], [NOON.date()]))
    assert reconciled.heals == ()


@pytest.mark.parametrize("kind", [Kind.KILL, Kind.LOSE_REPLY])
def test_a_plan_may_die_after_columns_were_changed(workbench, kind):
    table, cycle = moved_table(workbench)
    alter(workbench, table, "ADD COLUMN venue String DEFAULT 'x'")
    insert_more(workbench, table)
    tables = table_file([workbench.spec(table)])
    assert run_task("plan", Fault(FaultPoint.COLUMNS_CHANGED, kind, table), tables, [table], LATER) != 0
    with ThreadPoolExecutor(2) as pool:
        cycles = [cycle, workbench.cycle(workbench.spec(table), now=LATER)]
        first, second = pool.map(lambda each: each.plan(each.tables[table]), cycles)
    assert first.window_id == second.window_id
    assert len(workbench.cold_table(table).metadata.schemas) == 2
    workbench.publish(first)
    cycle.commit(cycle.tables[table])
    assert values(workbench, table, "venue") == [None] * 100 + ["x"] * 100


def test_two_who_change_the_columns_at_once_change_them_once(workbench):
    """As two schedulers with ledgers of their own."""
    table, cycle = moved_table(workbench)
    spec = cycle.tables[table]
    alter(workbench, table, "ADD COLUMN venue String")
    first, second = (cycle.catalog.load(spec) for _ in range(2))
    changes = first.check_source(spec, cycle.clickhouse.columns(spec))
    before = len(workbench.cold_table(table).metadata.schemas)
    follow_source(spec, first, changes, LATER, window_open=False)
    follow_source(spec, second, changes, LATER, window_open=False)  # what it wanted is there
    assert len(workbench.cold_table(table).metadata.schemas) == before + 1
    assert cycle.catalog.load(spec).check_source(spec, cycle.clickhouse.columns(spec)) == ()


def test_a_forgotten_job_lacks_the_new_column(workbench):
    table, cycle = moved_table(workbench)
    insert_more(workbench, table)
    forgotten = cycle.plan(cycle.tables[table])
    workbench.sql(f"ALTER TABLE {table} ADD COLUMN venue String DEFAULT 'x'")
    with cycle.ledger.locked(table) as locked:
        locked.forget_cold_table()
        locked.abandon(WindowId.parse(forgotten.window_id))
    planned = cycle.plan(cycle.tables[table])
    done, output = workbench.try_to_publish(forgotten)
    assert not done
    assert "the cold table's columns have changed since this was planned" in output
    workbench.publish(planned)
    assert values(workbench, table, "venue") == [None] * 100 + ["x"] * 100


def test_a_table_told_so_stops_until_a_person_applies_it(workbench):
    table, cycle = moved_table(workbench, schema_changes="refuse")
    alter(workbench, table, "ADD COLUMN venue String")
    insert_more(workbench, table)
    with pytest.raises(InvalidSource, match=rf"add venue \(string\).*k2 schema {table} --apply"):
        cycle.plan(cycle.tables[table])
    assert day(cycle, table).verdict is Verdict.EQUAL
    apply(cycle.tiers, cycle.tables[table])
    workbench.move(cycle, table)
    assert day(cycle, table).verdict is Verdict.EQUAL


def test_spark_writes_new_and_unfilled_columns_too(workbench):
    table, cycle = moved_table(workbench, transport="jdbc")
    insert_more(workbench, table)
    alter(workbench, table, "ADD COLUMN venue String DEFAULT 'x', DROP COLUMN note")
    stop_filling(cycle.tiers, cycle.tables[table], "note")
    workbench.move(cycle, table)
    assert values(workbench, table, "venue") == [None] * 100 + ["x"] * 100
    assert values(workbench, table, "note")[100:] == [None] * 100
    assert day(cycle, table).verdict is Verdict.EQUAL


def test_history_comes_without_a_column_only_if_a_person_accepts_it(workbench):
    """And a rollback that would take the column's values is not offered."""
    table, cycle = moved_table(workbench)
    spec = cycle.tables[table]
    insert_more(workbench, table)
    skip(cycle.tiers, spec, find_skip(cycle.tiers, spec, NOON + timedelta(hours=1.5)))
    insert_more(workbench, table, hours=2)
    workbench.move(cycle, table)
    notes = values(workbench, table, "note")
    assert stop_filling(cycle.tiers, spec, "note")
    found = find_left_out(cycle.tiers, spec)
    with pytest.raises(OffloadError, match=r"would come with NULL in note.*--accept-null"):
        list(plan_backfills(cycle.tiers, found))
    with pytest.raises(OffloadError, match=r"does not fill note any more.*Going back would lose them"):
        find_skip(cycle.tiers, spec, NOON + timedelta(hours=1))

    planned = list(plan_backfills(cycle.tiers, found, accept_null=True))
    record_nulls(cycle.tiers, found)
    workbench.publish(*planned)
    assert values(workbench, table, "note") == notes[:100] + [None] * 100 + notes[100:]
    [shown] = [pair for pair in read_schema(cycle.tiers, spec).columns if pair.name == "note"]
    assert shown.cold.mark.nulls == found.ranges
    assert find_left_out(cycle.tiers, spec).nulls == {}
    assert day(cycle, table).verdict is Verdict.EQUAL


def test_after_a_rollback_no_window_brings_rows_without_a_column_that_they_had(workbench):
    table, cycle = moved_table(workbench)
    spec = cycle.tables[table]
    first = workbench.cold_table(table).current_snapshot().snapshot_id
    insert_more(workbench, table)
    workbench.move(cycle, table)
    notes = values(workbench, table, "note")
    assert stop_filling(cycle.tiers, spec, "note")
    assert not stop_filling(cycle.tiers, spec, "note")
    insert_more(workbench, table, hours=2)
    workbench.move(cycle, table)
    last = workbench.cold_table(table).current_snapshot().snapshot_id

    workbench.cold_table(table).manage_snapshots().rollback_to_snapshot(first).commit()
    again = rf"was rolled back to .*'note' was filled up to .*`k2 schema {table} --stop-filling note` again"
    with pytest.raises(OffloadError, match=again) as refused:
        cycle.plan(spec)
    assert read_schema(cycle.tiers, spec).refusals == [check_source(cycle.tiers, spec).problem] == [str(refused.value)]
    assert read_status(cycle.tiers, spec, None, counts=False).refusal == str(refused.value)
    workbench.cold_table(table).manage_snapshots().set_current_snapshot(last).commit()
    assert cycle.plan(spec) is None
    assert values(workbench, table, "note") == notes + [None] * 100

    workbench.cold_table(table).manage_snapshots().rollback_to_snapshot(first).commit()
    assert stop_filling(cycle.tiers, spec, "note")
    while workbench.move(cycle, table) is not None:
        pass
    assert values(workbench, table, "note") == notes[:100] + [None] * 200
    assert day(cycle, table).verdict is Verdict.EQUAL
