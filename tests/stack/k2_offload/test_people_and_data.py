"""What people edit and what data does: either it is right, or the table stops with the reason and the command."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core.day_comparison import Verdict
from k2_offload.core.errors import ChangedTable, DamagedTable, ExpiredRows, InvalidSource, Overloaded
from k2_offload.core.exactly_once import watermark_of
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.gaps import GapKind
from k2_offload.work.accept import accept_missed, find_missed
from k2_offload.work.compare import compare
from k2_offload.work.status import read_status
from k2_offload.work.watermarks import accept, find_skip, read_cold_table, skip
from tests.faults.hook import Fault, Kind

NAMES = "schema.name-mapping.default"
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=8)
DAY = timedelta(days=1)


def moved_table(workbench, **options):
    """A table whose first 100 rows, from noon on, are cold; and its cycle."""
    table = workbench.create_trades(uuid.uuid4().hex[:8], **options)
    cycle = workbench.cycle(workbench.spec(table), now=LATER)
    workbench.insert_trades(table, NOON, 100)
    workbench.move(cycle, table)
    return table, cycle


def gaps_of(cycle, table):
    return [(gap.kind, gap.rows) for gap in cycle.ledger.read_gaps().get(table, [])]


def test_a_table_under_another_name_is_refused_as_its_seals_would_not_be_found(workbench):
    table, cycle = moved_table(workbench)
    entry = workbench.spec(table).replace(f"{table}:", f"{table}_renamed:", 1)
    renamed = workbench.cycle(entry, now=LATER)
    workbench.insert_trades(table, NOON + timedelta(hours=1), 100)
    with pytest.raises(ChangedTable, match=f"under the name {table}, .*Call it {table} in the table file again"):
        renamed.plan(renamed.tables[f"{table}_renamed"])
    with pytest.raises(ChangedTable, match="under the name"):
        renamed.commit(renamed.tables[f"{table}_renamed"])
    with pytest.raises(ChangedTable, match="k2 watermark rebuild"):
        renamed.plan(renamed.tables[f"{table}_renamed"])
    cycle = workbench.cycle(workbench.spec(table), now=LATER)
    workbench.move(cycle, table)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)


def test_another_timestamp_column_is_refused_until_it_is_changed_on_purpose(workbench):
    table, cycle = moved_table(workbench, extra=", ingested_at DateTime64(6, 'UTC') DEFAULT at + INTERVAL 2 SECOND")
    edited = workbench.cycle(workbench.spec(table, timestamp_column="ingested_at", partition_column="at"), now=LATER)
    with pytest.raises(ChangedTable, match=f"cut on 'at'.*k2 watermark rebuild {table}"):
        edited.plan(edited.tables[table])
    assert cycle.plan(cycle.tables[table]) is None, "put back, nothing has happened"

    workbench.sql(
        f"INSERT INTO {table} SELECT * REPLACE(at + INTERVAL 1 HOUR AS at, sequence + 7000 AS sequence) "
        f"FROM {table} LIMIT 3"
    )
    reading = read_cold_table(edited.tiers, edited.tables[table])
    assert reading.late == 3, "not moved, and below the newest row by the new column"
    accept(edited.tiers, edited.tables[table], reading)
    assert gaps_of(edited, table) == []
    [found] = compare(edited.tiers, edited.tables[table]).days
    assert (found.verdict, found.late_rows, found.cold_rows) == (Verdict.LATE_ROWS, 3, 100)
    workbench.sql(f"ALTER TABLE {table} DELETE WHERE sequence >= 7000 SETTINGS mutations_sync = 2")
    workbench.insert_trades(table, NOON + timedelta(hours=1), 100)
    workbench.move(edited, table)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)
    with pytest.raises(ChangedTable, match="cut on 'ingested_at'"):
        cycle.plan(cycle.tables[table])


def test_another_partition_column_is_refused(workbench):
    table, _ = moved_table(workbench, extra=", ingested_at DateTime64(6, 'UTC') DEFAULT at + INTERVAL 2 DAY")
    edited = workbench.cycle(workbench.spec(table, partition_column="ingested_at"), now=LATER)
    workbench.insert_trades(table, NOON + timedelta(hours=1), 100)
    with pytest.raises(ChangedTable, match=r"day of 'at', and the table file says day of 'ingested_at'"):
        edited.plan(edited.tables[table])


@pytest.mark.parametrize(
    "changes",
    [
        {"sort_columns": "[at]"},
        {"sequence_column": None},
        {"buffer_seconds": 60},
        {"out_of_order_seconds": 0, "idle_after_seconds": 60},
        {"max_window_rows": 30},
        {"max_file_rows": 7, "parallel_exports": 3},
        {"final": "false", "job_group": "another", "upstream": "[]"},
        {"warm_retention_days": 30, "future_seconds": 60},
    ],
    ids=", ".join,
)
def test_every_other_key_may_be_edited_between_cycles_and_while_a_window_is_open(workbench, changes):
    table, cycle = moved_table(workbench)
    workbench.insert_trades(table, NOON + timedelta(hours=1), 100)
    assert cycle.plan(cycle.tables[table]) is not None
    edited = workbench.cycle(workbench.spec(table, **changes), now=LATER)
    while workbench.move(edited, table):
        pass
    workbench.insert_trades(table, NOON + timedelta(hours=2), 100)
    while workbench.move(edited, table):
        pass
    workbench.check(edited, [table])


def test_an_hour_with_too_many_rows_is_moved_in_several_windows(workbench):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON, 200)
    workbench.insert_trades(table, NOON + timedelta(minutes=30), 60, step_micros=3)
    cycle = workbench.cycle(workbench.spec(table, max_window_rows=50), now=LATER)
    rows = []
    while planned := cycle.plan(cycle.tables[table]):
        rows.append(planned.rows)
        workbench.publish(planned)
        cycle.commit(cycle.tables[table])
    assert max(rows) <= 50
    assert sum(rows) == 260
    workbench.check(cycle, [table])


def test_a_sequence_column_of_text_is_refused(workbench):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON, 10)
    cycle = workbench.cycle(workbench.spec(table, sequence_column="note"), now=LATER)
    with pytest.raises(InvalidSource, match=r"sequence_column 'note' is Nullable\(String\), not a number"):
        cycle.plan(cycle.tables[table])


def test_a_query_that_clickhouse_has_no_memory_for_may_pass(workbench):
    cycle = workbench.cycle(workbench.spec(workbench.create_trades()))
    with pytest.raises(Overloaded, match="code 241"):
        cycle.clickhouse.execute("SELECT groupArray(number) FROM numbers(10000000) SETTINGS max_memory_usage = 1000000")
    assert cycle.clickhouse.now()


def test_a_row_from_the_future_says_nothing_about_a_feed_that_stalls(workbench):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON, 120)
    workbench.insert_trades(table, datetime(2099, 1, 1, tzinfo=UTC), 1, start_sequence=900)
    stalled = workbench.cycle(workbench.spec(table), now=NOON + timedelta(minutes=20))
    workbench.move(stalled, table)
    last_row = NOON + timedelta(seconds=118)
    assert watermark_of(stalled.catalog.load(stalled.tables[table]).published) == last_row - timedelta(seconds=10)
    workbench.insert_trades(table, last_row - timedelta(seconds=4), 2, start_sequence=901)
    workbench.move(workbench.cycle(workbench.spec(table), now=LATER), table)
    assert workbench.cold_rows(table) == workbench.warm_rows(table, until=LATER)


def test_rows_that_no_window_will_hold_are_counted(workbench):
    table, cycle = moved_table(workbench)
    workbench.insert_trades(table, datetime(1999, 12, 31, tzinfo=UTC), 3, start_sequence=900)
    workbench.insert_trades(table, datetime(2099, 1, 1, tzinfo=UTC), 2, start_sequence=910)
    status = read_status(cycle.tiers, cycle.tables[table], None, counts=True)
    assert (status.before_first, status.future) == (3, 2)


def test_a_partition_column_that_may_be_null_is_refused(workbench):
    table = workbench.create_trades(extra=", day Nullable(DateTime64(6, 'UTC'))")
    workbench.insert_trades(table, NOON, 10)
    cycle = workbench.cycle(workbench.spec(table, partition_column="day"), now=LATER)
    with pytest.raises(InvalidSource, match=r"partition_column 'day' may be NULL.*ifNull\(day, at\) AS day"):
        cycle.plan(cycle.tables[table])
    assert cycle.catalog.load(cycle.tables[table]) is None
    workbench.sql(f"CREATE VIEW {table}_dated AS SELECT * REPLACE(ifNull(day, at) AS day) FROM {table}")
    dated = workbench.cycle(workbench.spec(table, source=f"k2.{table}_dated", partition_column="day"), now=LATER)
    workbench.move(dated, table)
    assert workbench.cold_rows(table) == workbench.warm_rows(f"{table}_dated")


def test_a_timestamp_that_may_be_null_and_is_not_is_its_own_partition(workbench):
    table = f"{workbench.name}_t"
    workbench.sql(f"CREATE TABLE {table} (at Nullable(DateTime64(6, 'UTC')), id Int32) ENGINE = MergeTree ORDER BY id")
    workbench.sql(f"INSERT INTO {table} VALUES ('2026-03-04 12:00:00', 1)")
    cycle = workbench.cycle(workbench.spec(table, sequence_column="id", sort_columns="[id]"), now=LATER)
    workbench.move(cycle, table)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)


def test_fewer_rows_than_were_planned_are_not_published_until_a_person_accepts_it(workbench):
    """As a replica that lags answers the job, or as if rows had been deleted."""
    table, cycle = moved_table(workbench)
    workbench.insert_trades(table, NOON + timedelta(hours=1), 24, start_sequence=500)
    planned = cycle.plan(cycle.tables[table])
    workbench.sql(f"ALTER TABLE {table} DELETE WHERE sequence >= 504 SETTINGS mutations_sync = 2")
    done, output = workbench.try_to_publish(planned)
    assert not done
    assert "counts 4 rows, 20 fewer than the 24 when the window was planned. Nothing was published." in output
    assert sum(workbench.cold_rows(table).values()) == 100

    assert cycle.plan(cycle.tables[table]).rows == 24, "not forgotten by the next run"
    accept_missed(cycle.tiers, cycle.tables[table], find_missed(cycle.tiers, cycle.tables[table]))
    workbench.move(cycle, table)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)
    assert gaps_of(cycle, table) == [(GapKind.FEWER_ROWS, 20)]


def test_a_file_whose_columns_readers_would_not_all_find_is_not_published(workbench):
    """Somebody has set the names by which readers find columns, and has left one out."""
    table, cycle = moved_table(workbench)
    cold = workbench.cold_table(table)
    names = json.loads(cold.properties[NAMES])
    with cold.transaction() as transaction:
        transaction.set_properties({NAMES: json.dumps([each for each in names if each["names"] != ["note"]])})
    workbench.insert_trades(table, NOON + timedelta(hours=1), 24, start_sequence=500)
    done, output = workbench.try_to_publish(cycle.plan(cycle.tables[table]))
    assert not done
    assert f"has {len(names) - 1} of the table's {len(names)} columns. Nothing was published" in output
    assert workbench.cold_table(table).metadata.current_snapshot_id == cold.metadata.current_snapshot_id

    with workbench.cold_table(table).transaction() as transaction:
        transaction.set_properties({NAMES: json.dumps(names)})
    workbench.move(cycle, table)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)


def test_an_outage_longer_than_the_ttl_stops_the_table_until_a_person_accepts_the_gap(workbench):
    table, _ = moved_table(workbench)
    workbench.insert_trades(table, NOON + 9 * DAY, 50, start_sequence=500)
    late = workbench.cycle(workbench.spec(table), now=NOON + 10 * DAY)
    for _ in range(2):
        with pytest.raises(ExpiredRows, match=r"may have expired.*k2 accept"):
            late.plan(late.tables[table])
    accept_missed(late.tiers, late.tables[table], find_missed(late.tiers, late.tables[table]))
    workbench.move(late, table)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)
    assert gaps_of(late, table) == [(GapKind.EXPIRED, None)]
    status = read_status(late.tiers, late.tables[table], None, counts=False, gaps=late.ledger.read_gaps()[table])
    assert status.gaps[0].window.low == NOON + timedelta(seconds=98, microseconds=1)


def test_a_market_that_is_silent_for_weeks_and_watched_is_no_gap(workbench):
    table, _ = moved_table(workbench)
    for days in range(0, 21, 3):
        watching = workbench.cycle(workbench.spec(table), now=LATER + days * DAY)
        assert watching.plan(watching.tables[table]) is None
    workbench.insert_trades(table, LATER + 21 * DAY, 50, start_sequence=500)
    awake = workbench.cycle(workbench.spec(table), now=LATER + 21 * DAY + timedelta(hours=1))
    workbench.move(awake, table)
    workbench.check(awake, [table])
    assert gaps_of(awake, table) == []


def test_a_cold_table_that_was_dropped_is_not_made_anew_in_its_place(workbench):
    table, cycle = moved_table(workbench)
    metadata_file = workbench.cold_table(table).metadata_location
    workbench.cold_catalog.drop_table(f"cold.{table}")
    with pytest.raises(DamagedTable, match="not made anew, so that it can be registered again"):
        cycle.plan(cycle.tables[table])
    assert cycle.catalog.load(cycle.tables[table]) is None
    workbench.cold_catalog.register_table(f"cold.{table}", metadata_file)
    workbench.insert_trades(table, NOON + timedelta(hours=1), 100, start_sequence=500)
    workbench.move(cycle, table)
    workbench.check(cycle, [table])


def test_a_staged_snapshot_that_somebody_publishes_by_hand_is_not_moved_again(workbench):
    table, cycle = moved_table(workbench)
    workbench.insert_trades(table, NOON + timedelta(hours=1), 100, start_sequence=500)
    planned = cycle.plan(cycle.tables[table])
    code, _ = workbench.start_warm_job(planned, faults=[Fault(FaultPoint.STAGED, Kind.RAISE, table)]).wait_for_end()
    assert code == 1
    staged = max(workbench.cold_table(table).metadata.snapshots, key=lambda each: each.sequence_number)
    catalog = workbench.cold_catalog.name
    workbench.spark.ask("sql", f"CALL {catalog}.system.cherrypick_snapshot('cold.{table}', {staged.snapshot_id})")
    assert workbench.cold_rows(table) == workbench.warm_rows(table)
    assert workbench.move(cycle, table) is None
    assert workbench.cold_rows(table) == workbench.warm_rows(table)


def test_a_table_that_was_just_added_and_one_told_to_begin_late_raise_no_alarm_for_what_was_never_theirs(workbench):
    table = workbench.create_trades(uuid.uuid4().hex[:8])
    cycle = workbench.cycle(workbench.spec(table, max_window_rows=100), now=NOON + 8 * DAY)
    for hour in range(3):  # older than the retention, and still there
        workbench.insert_trades(table, NOON + timedelta(hours=hour), 90, start_sequence=100 * hour)
    while workbench.move(cycle, table):
        pass
    assert workbench.cold_rows(table) == workbench.warm_rows(table)

    late = workbench.create_trades(uuid.uuid4().hex[:8])
    workbench.insert_trades(late, NOON, 90)
    cycle = workbench.cycle(workbench.spec(late), now=NOON + 8 * DAY)
    skip(cycle.tiers, cycle.tables[late], find_skip(cycle.tiers, cycle.tables[late], NOON - DAY))
    workbench.move(cycle, late)
    assert workbench.cold_rows(late) == workbench.warm_rows(late)


def test_a_watermark_in_the_future_is_not_rebuilt(workbench):
    table, cycle = moved_table(workbench, extra=", other DateTime64(6, 'UTC') DEFAULT '2099-01-01 00:00:00'")
    edited = workbench.cycle(workbench.spec(table, timestamp_column="other", partition_column="at", future_seconds=0))
    with pytest.raises(DamagedTable, match="in the future"):
        read_cold_table(edited.tiers, edited.tables[table])
    assert cycle.plan(cycle.tables[table]) is None


def test_what_validate_status_and_verify_say_of_a_cold_table_that_was_dropped(workbench):
    table, cycle = moved_table(workbench)
    workbench.cold_catalog.drop_table(f"cold.{table}")
    record = cycle.ledger.read_tables()[table]
    assert "not there" in read_status(cycle.tiers, cycle.tables[table], record, counts=False).problem
    assert not compare(cycle.tiers, cycle.tables[table]).equal
