"""What was skipped is brought beside everything else, once, on the real stack."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psutil
import pytest

from k2_offload.core.backfill import BackfillId
from k2_offload.core.day_comparison import Verdict
from k2_offload.core.errors import ChangedTable, DamagedTable, OffloadError
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.gaps import GapKind
from k2_offload.core.plan import group_plans
from k2_offload.core.skips import GivenUp
from k2_offload.work.backfill import check_all_came, find_left_out, plan_backfills
from k2_offload.work.changes import find_changes
from k2_offload.work.compare import compare_day, count_days
from k2_offload.work.reconcile import plan_heal, reconcile
from k2_offload.work.seals import seal_days
from k2_offload.work.status import read_status
from k2_offload.work.watermarks import accept, find_skip, read_cold_table, skip
from tests.faults.hook import Fault, Kind
from tests.faults.output import Output

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=3)
POINTS = (
    FaultPoint.BACKFILL_STARTED,
    FaultPoint.FILE_EXPORTED,
    FaultPoint.STAGED,
    FaultPoint.BACKFILL_AUDITED,
    FaultPoint.BACKFILL_CHECKED,
    FaultPoint.BACKFILL_STAGED_AGAIN,
    FaultPoint.BACKFILLED,
)


@pytest.fixture
def skipped(workbench):
    """A table of which two ranges were skipped: 100 rows from 10:00 on, 100 from 12:00 on; 100 before and after."""
    table = workbench.create_trades()
    for number, hours in enumerate((-3, -2, -1, 0, 1)):
        workbench.insert_trades(table, NOON + timedelta(hours=hours), 100, start_sequence=1000 * number)
    spec = workbench.spec(table, max_window_rows=100, max_file_rows=60)
    for hours, moves in ((-2.5, True), (-1.5, False), (-0.5, True), (0.5, False)):
        time = NOON + timedelta(hours=hours)
        cycle = workbench.cycle(spec, now=time + timedelta(minutes=10))
        if moves:
            workbench.move(cycle, table)
        else:
            skip(cycle.tiers, cycle.tables[table], find_skip(cycle.tiers, cycle.tables[table], time))
    cycle = workbench.cycle(spec, now=LATER)
    workbench.move(cycle, table)
    assert sum(workbench.cold_rows(table).values()) == 300
    return cycle, table


def plan(cycle, table, **how):
    return list(plan_backfills(cycle.tiers, find_left_out(cycle.tiers, cycle.tables[table]), **how))


def compare(cycle, table):
    return compare_day(cycle.tiers, count_days(cycle.tiers, cycle.tables[table]), NOON.date())


def move_with(workbench, planned, *faults):
    """In the application that is up, with faults armed; whether all was published."""
    [document] = group_plans([("test", each) for each in planned])
    document = document.to_json()
    return workbench.spark.ask("move_with_faults", document, [each.to_json() for each in faults], "/nowhere", 1)


def test_what_was_skipped_is_brought_in_bounded_windows(workbench, skipped):
    cycle, table = skipped
    watermark = cycle.catalog.load(cycle.tables[table]).published.window_id.window.high
    assert compare(cycle, table).verdict is Verdict.EQUAL
    planned = plan(cycle, table, max_rows=60)
    assert [each.rows for each in planned] == [60, 40, 60, 40]
    output = workbench.publish(*planned)
    assert output.count(": filled, ") == 4
    told = list(find_changes(cycle.tiers, cycle.tables[table], {each.backfill_id for each in planned[1:]}))
    assert [(change.kind, change.rows) for change in told] == [("backfill", 40), ("backfill", 60), ("backfill", 40)]
    assert [change.window for change in told] == [BackfillId.parse(each.backfill_id).window for each in planned[1:]]
    workbench.check(cycle, [table])
    cold = cycle.catalog.load(cycle.tables[table])
    assert cold.published.window_id.window.high == watermark
    assert cold.skips.left_out == ()
    assert find_left_out(cycle.tiers, cycle.tables[table]).ranges == ()
    found = compare(cycle, table)
    assert (found.verdict, found.warm_rows, found.cold_rows) == (Verdict.EQUAL, 500, 500)


def test_spark_brings_it_too(workbench):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON, 100)
    spec = workbench.spec(table, transport="jdbc", history="backfill")
    cycle = workbench.cycle(spec, now=LATER)
    assert workbench.move(cycle, table) is None
    workbench.insert_trades(table, LATER, 100, start_sequence=1000)
    cycle = workbench.cycle(spec, now=LATER + timedelta(hours=1))
    workbench.publish(*plan(cycle, table))
    workbench.move(cycle, table)
    cycle.commit(cycle.tables[table])
    workbench.check(cycle, [table])


def test_repeated_and_overlapping_backfills_change_nothing(workbench, skipped):
    cycle, table = skipped
    first, other = plan(cycle, table, max_rows=100)
    overlapping = plan(cycle, table, max_rows=30)
    workbench.publish(first)
    snapshots = len(workbench.cold_table(table).metadata.snapshots)
    assert "already filled" in workbench.publish(first)
    assert workbench.publish(*overlapping[:4]).count("already filled") == 4
    assert len(workbench.cold_table(table).metadata.snapshots) == snapshots
    assert sum(workbench.cold_rows(table).values()) == 400
    workbench.publish(*overlapping[4:6])
    done, output = workbench.try_to_publish(other)
    assert not done
    assert "not all of it is left out in the cold table any more" in output
    workbench.publish(*plan(cycle, table))
    workbench.check(cycle, [table])


def test_two_backfills_at_the_same_moment_bring_it_once(workbench, skipped):
    cycle, table = skipped
    [document] = group_plans([("test", each) for each in plan(cycle, table)])
    assert workbench.spark.ask("move_with_faults", document.to_json(), [], "/nowhere", 2)
    workbench.check(cycle, [table])


def test_a_backfill_that_is_killed_is_brought_later(workbench):
    """One job, killed while it is at a point of its own with each of three tables."""
    points = (FaultPoint.STAGED, FaultPoint.BACKFILL_STAGED_AGAIN, FaultPoint.BACKFILLED)
    begun = {point: begin_at_the_front(workbench, point.name.lower()) for point in points}
    planned = [window for table, cycle in begun.values() for window in plan(cycle, table)]
    faults = [Fault(point, Kind.WAIT, table) for point, (table, _) in begun.items()]
    interfered, _ = begun[FaultPoint.BACKFILL_STAGED_AGAIN]
    faults.append(Fault(FaultPoint.BACKFILL_CHECKED, Kind.INTERFERE, interfered))
    job = Output(workbench.start_job(*planned, faults=faults))
    job.wait_for("FAULT wait", times=len(points))
    for process in [*psutil.Process(job.process.pid).children(recursive=True), job.process]:
        process.kill()
    job.wait_for_end()
    for point, (table, cycle) in begun.items():
        ranges = find_left_out(cycle.tiers, cycle.tables[table]).ranges
        assert bool(ranges) == (point is not FaultPoint.BACKFILLED), point
        if ranges:
            workbench.publish(*plan(cycle, table))
        workbench.check(cycle, [table])


@pytest.mark.parametrize(
    "point", [FaultPoint.FILE_EXPORTED, FaultPoint.STAGED, FaultPoint.BACKFILLED], ids=["exported", "staged", "filled"]
)
def test_a_reply_that_is_lost_brings_it_once(workbench, point):
    table, cycle = begin_at_the_front(workbench)
    assert move_with(workbench, plan(cycle, table), Fault(point, Kind.LOSE_REPLY, table))
    assert find_left_out(cycle.tiers, cycle.tables[table]).ranges == ()
    workbench.check(cycle, [table])


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.removeprefix("backfill "))
def test_an_error_leaves_all_or_nothing(workbench, point):
    table, cycle = begin_at_the_front(workbench)
    interfered = Fault(FaultPoint.BACKFILL_CHECKED, Kind.INTERFERE, table)
    staged_again = point is FaultPoint.BACKFILL_STAGED_AGAIN
    faults = [*([interfered] if staged_again else []), Fault(point, Kind.RAISE, table)]
    assert not move_with(workbench, plan(cycle, table), *faults)
    if find_left_out(cycle.tiers, cycle.tables[table]).ranges:
        assert not workbench.cold_rows(table)
        workbench.publish(*plan(cycle, table))
    workbench.check(cycle, [table])


def begin_at_the_front(workbench, name="trades", **options):
    """A new table of 100 rows, all of them left to a backfill.

    :param options: of the table in ClickHouse
    """
    table = workbench.create_trades(name, **options)
    workbench.insert_trades(table, NOON, 100)
    cycle = workbench.cycle(workbench.spec(table, history="backfill"), now=LATER)
    assert cycle.plan(cycle.tables[table]) is None
    cycle.commit(cycle.tables[table])
    assert find_left_out(cycle.tiers, cycle.tables[table]).rows == 100
    return table, cycle


def test_a_window_and_a_heal_meanwhile_lose_nothing(workbench, skipped):
    """Each of the three was planned before the others were published."""
    cycle, table = skipped
    backfills = plan(cycle, table)
    workbench.insert_trades(table, NOON - timedelta(hours=2.9), 3, start_sequence=10**6)
    days = count_days(cycle.tiers, cycle.tables[table])
    heal = plan_heal(days, compare(cycle, table), ledger_id=None)
    workbench.insert_trades(table, LATER, 10, start_sequence=10**7)
    later = workbench.cycle(workbench.spec(table), now=LATER + timedelta(hours=1))
    window = later.plan(later.tables[table])
    workbench.publish(backfills[0])
    workbench.publish(heal)
    workbench.publish(window)
    later.commit(later.tables[table])
    workbench.publish(backfills[1])
    workbench.check(later, [table])
    assert compare(later, table).verdict is Verdict.EQUAL


def test_a_rollback_takes_it_away_as_a_whole(workbench, skipped):
    cycle, table = skipped
    before = cycle.catalog.load(cycle.tables[table])
    workbench.publish(*plan(cycle, table))
    workbench.spark.ask("sql", before.rollback_statement(before.snapshot_id))
    assert sum(workbench.cold_rows(table).values()) == 300
    assert compare(cycle, table).verdict is Verdict.EQUAL
    assert [each.rows for each in plan(cycle, table)] == [100, 100]
    workbench.publish(*plan(cycle, table))
    workbench.check(cycle, [table])


def test_expiry_does_not_forget_what_was_brought(workbench, skipped):
    cycle, table = skipped
    first, second = plan(cycle, table)
    workbench.publish(first)
    workbench.compact(table)
    expire(workbench, cycle, table)
    assert find_left_out(cycle.tiers, cycle.tables[table]).rows == 100
    assert "already filled" in workbench.publish(first)
    workbench.publish(second)
    workbench.insert_trades(table, LATER, 10, start_sequence=10**7)
    later = workbench.cycle(workbench.spec(table), now=LATER + timedelta(hours=1))
    workbench.move(later, table)
    workbench.compact(table)
    expire(workbench, later, table)
    assert workbench.publish(first, second).count("already filled") == 2
    workbench.check(later, [table])


def expire(workbench, cycle, table):
    """All snapshots but the heads of branches, as another tool may do."""
    statement = cycle.catalog.load(cycle.tables[table]).rollback_statement(0)
    catalog = statement.split()[1].split(".")[0]
    workbench.spark.ask(
        "sql",
        f"CALL {catalog}.system.expire_snapshots(table => 'cold.{table}', older_than => now(), retain_last => 1)",
    )
    assert len(workbench.cold_table(table).metadata.snapshots) <= 3


def test_a_day_is_sealed_when_all_of_it_was_brought(workbench, skipped):
    _, table = skipped
    workbench.insert_trades(table, NOON + timedelta(days=2), 10, start_sequence=10**7)
    later = workbench.cycle(workbench.spec(table), now=NOON + timedelta(days=2, hours=1))
    workbench.move(later, table)
    spec = later.tables[table]
    list(reconcile(later.tiers, [spec]))
    assert compare(later, table).verdict is Verdict.EQUAL
    assert seal_days(later.tiers, [spec]).seals == []
    first, second = plan(later, table)
    workbench.publish(first)
    list(reconcile(later.tiers, [spec]))
    assert seal_days(later.tiers, [spec]).seals == [], "half of it"
    workbench.publish(second)
    list(reconcile(later.tiers, [spec]))
    assert [(seal.day, seal.rows) for seal in seal_days(later.tiers, [spec]).seals] == [(NOON.date(), 500)]


def test_rows_that_go_while_a_range_is_brought_stop_it(workbench, skipped):
    cycle, table = skipped
    planned = plan(cycle, table)
    workbench.sql(f"ALTER TABLE {table} DELETE WHERE sequence = 1007 SETTINGS mutations_sync = 2")
    done, output = workbench.try_to_publish(planned[0])
    assert not done
    assert f"`k2 backfill {table}` counts it anew" in output
    with pytest.raises(OffloadError, match=r"100 rows were left out .* ClickHouse shows 99 of .*--accept-fewer"):
        plan(cycle, table)
    assert gaps(cycle, table) == [(GapKind.SKIPPED, 100)] * 2
    workbench.publish(*plan(cycle, table, accept_fewer=True))
    workbench.check(cycle, [table])
    assert gaps(cycle, table) == [(GapKind.FEWER_ROWS, 1)], "what is missing stays on record"


def test_what_expired_before_it_was_brought_stays_on_record(workbench, skipped):
    """Waiting would cost more rows, so nobody has to accept it before; but the end is no good one."""
    _, table = skipped
    workbench.sql(f"SYSTEM STOP TTL MERGES {table}")
    workbench.sql(
        f"ALTER TABLE {table} MODIFY TTL toDateTime(at) + INTERVAL 1 DAY SETTINGS materialize_ttl_after_modify = 0"
    )
    workbench.sql(f"ALTER TABLE {table} DELETE WHERE sequence = 1007 SETTINGS mutations_sync = 2")
    later = workbench.cycle(workbench.spec(table, warm_retention_days=9), now=NOON + timedelta(hours=22.2))
    workbench.publish(*plan(later, table))
    assert gaps(later, table) == [(GapKind.FEWER_ROWS, 1)]
    with pytest.raises(OffloadError, match=r"1 of 100 rows in \[2026-03-04T09:.* stays on record"):
        check_all_came(find_left_out(later.tiers, later.tables[table]))


def gaps(cycle, table):
    """What is on record as missed."""
    on_record = cycle.ledger.read_gaps().get(table, ())
    return [(gap.kind, gap.rows) for gap in read_status(cycle.tiers, cycle.tables[table], None, False, on_record).gaps]


def test_a_skip_that_is_undone_is_compared_again(workbench, skipped):
    cycle, table = skipped
    assert gaps(cycle, table) == [(GapKind.SKIPPED, 100)] * 2
    chain = cycle.catalog.load(cycle.tables[table]).chain.ancestors()
    first_window = chain[-1].snapshot_id
    workbench.spark.ask("sql", cycle.catalog.load(cycle.tables[table]).rollback_statement(first_window))
    while workbench.move(cycle, table):
        pass
    workbench.check(cycle, [table])
    assert gaps(cycle, table) == []
    found = compare(cycle, table)
    assert (found.verdict, found.warm_rows, found.scope.left_out) == (Verdict.EQUAL, 500, ())
    assert find_left_out(cycle.tiers, cycle.tables[table]).ranges == ()


def test_what_is_left_out_is_known_after_a_rebuild(workbench, skipped):
    cycle, table = skipped
    first, _ = plan(cycle, table)
    workbench.publish(first)
    cold = workbench.cold_catalog.load_table(f"cold.{table}")
    cold.manage_snapshots().remove_branch("k2_published").commit()
    for snapshot in cold.metadata.snapshots[:-1]:
        cold.maintenance.expire_snapshots().by_id(snapshot.snapshot_id).commit()
    spec = cycle.tables[table]
    accept(cycle.tiers, spec, read_cold_table(cycle.tiers, spec))
    assert find_left_out(cycle.tiers, spec).rows == 100
    workbench.publish(*plan(cycle, table))
    workbench.check(cycle, [table])


def test_what_branches_keep_is_known_after_a_rebuild(workbench, skipped):
    """Another writer has removed rows, so that no row total leads to the rewrite that is all that is left."""
    cycle, table = skipped
    first, _ = plan(cycle, table)
    workbench.publish(first)
    workbench.cold_catalog.load_table(f"cold.{table}").delete("at < '2026-03-04T09:00:40+00:00'")
    workbench.sql(f"ALTER TABLE {table} DELETE WHERE at < '2026-03-04 09:00:40' SETTINGS mutations_sync = 2")
    workbench.compact(table)
    expire(workbench, cycle, table)
    spec = cycle.tables[table]
    with pytest.raises(DamagedTable, match="expired past its last offloaded window"):
        cycle.plan(spec)
    accept(cycle.tiers, spec, read_cold_table(cycle.tiers, spec))
    assert find_left_out(cycle.tiers, spec).rows == 100
    workbench.publish(*plan(cycle, table))
    workbench.check(cycle, [table])


INGESTED = {"extra": ", ingested_at DateTime64(6, 'UTC') DEFAULT at + INTERVAL 2 SECOND"}


def edited(workbench, table):
    """Somebody has edited the table file."""
    spec = workbench.spec(table, timestamp_column="ingested_at", partition_column="at", history="backfill")
    return workbench.cycle(spec, now=LATER + timedelta(hours=1))


def test_what_is_left_out_by_another_column_is_given_up_on_record(workbench):
    """Also where all that the chain still has is a backfill, which does not say what its ranges are times of."""
    table, _ = begin_at_the_front(workbench, **INGESTED)
    workbench.insert_trades(table, LATER, 40, start_sequence=1000)
    later = workbench.cycle(workbench.spec(table, history="backfill"), now=LATER + timedelta(hours=1))
    workbench.move(later, table)
    workbench.publish(plan(later, table, max_rows=60)[0])
    workbench.compact(table)
    expire(workbench, later, table)
    [left_out] = find_left_out(later.tiers, later.tables[table]).ranges
    cycle = edited(workbench, table)
    spec = cycle.tables[table]
    found = read_cold_table(cycle.tiers, spec)
    assert (found.late, found.given_up) == (40, (GivenUp(left_out.low, left_out.high, 40),))
    accept(cycle.tiers, spec, found)
    cycle.commit(spec)
    assert gaps(cycle, table) == [(GapKind.FEWER_ROWS, 40)]
    assert find_left_out(cycle.tiers, spec).ranges == ()


def test_the_column_may_be_edited_before_any_row_is_cold(workbench):
    table, _ = begin_at_the_front(workbench, **INGESTED)
    cycle = edited(workbench, table)
    spec = cycle.tables[table]
    with pytest.raises(ChangedTable, match=f"`k2 watermark rebuild {table}`"):
        cycle.plan(spec)
    accept(cycle.tiers, spec, read_cold_table(cycle.tiers, spec))
    assert gaps(cycle, table) == [(GapKind.SKIPPED, find_left_out(cycle.tiers, spec).rows)]
    workbench.insert_trades(table, LATER, 40, start_sequence=1000)
    assert workbench.move(cycle, table)
    workbench.publish(*plan(cycle, table))
    workbench.check(cycle, [table])
    assert gaps(cycle, table) == []


def test_what_is_above_the_watermark_is_refused(skipped):
    cycle, table = skipped
    with pytest.raises(OffloadError, match=r"lies above the watermark, .* Ask for a range that ends at"):
        find_left_out(cycle.tiers, cycle.tables[table], high=LATER + timedelta(hours=1))


def test_a_source_that_shows_none_of_the_rows_counts_nothing_as_brought(workbench, skipped):
    cycle, table = skipped
    workbench.sql(f"CREATE TABLE {table}_elsewhere AS {table}")
    workbench.sql(f"EXCHANGE TABLES {table} AND {table}_elsewhere")
    with pytest.raises(OffloadError, match=r"shows no row of what was left out in .*--accept-fewer"):
        plan(cycle, table)
    assert [each.rows for each in plan(cycle, table, accept_fewer=True)] == [0, 0]


def test_a_new_table_begins_at_the_front(workbench):
    table, _ = begin_at_the_front(workbench)
    workbench.insert_trades(table, LATER, 40, start_sequence=1000)
    later = workbench.cycle(workbench.spec(table, history="backfill"), now=LATER + timedelta(hours=1))
    workbench.move(later, table)
    assert sum(workbench.cold_rows(table).values()) == 40
    planned = plan(later, table, max_rows=60, newest_first=True)
    assert [each.rows for each in planned] == [40, 60], "cut at a full minute"
    workbench.publish(*planned)
    workbench.check(later, [table])
