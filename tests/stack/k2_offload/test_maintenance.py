"""Cold tables are tidied and hold the same rows, on the real stack."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlparse

import pytest

from k2_offload.core.day_comparison import day_window
from k2_offload.core.exactly_once import PUBLISHED_BRANCH, watermark_of
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.maintenance import MAX_REF_AGE, Folder, Tidied, begun
from k2_offload.core.plan import group_plans
from k2_offload.core.report import DayBounds
from k2_offload.work.changes import find_rewrites, seen_snapshots
from k2_offload.work.reconcile import compare_day, count_days, plan_heal
from tests.faults.hook import EFFECTS, MAINTENANCE_POINTS, Fault, Kind

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = NOON.date()
NEXT_DAY = DAY + timedelta(days=1)
LATER = NOON + timedelta(days=1, hours=20)
FAR_AHEAD = datetime(2100, 1, 1, tzinfo=UTC)
"""All snapshots of the tests are older; those of the embedded stack are made now, whatever the market's time."""


@pytest.fixture
def scattered(workbench):
    """A table of two days: one day of six files is over."""
    return scattered_table(workbench, (0, 1, 2, 3, 4, 5, 20))


@pytest.fixture
def scattered_in_windows(workbench):
    """The same, moved in three windows."""
    return scattered_table(workbench, (0, 1, 2), (3, 4, 5), (20,))


@pytest.fixture
def two_days_scattered(workbench):
    """A table of three days: two days of six files each are over."""
    return scattered_table(workbench, range(6), range(12, 18), (40,))


def scattered_table(workbench, *windows):
    table = workbench.create_trades()
    for hours in windows:
        move(workbench, table, *hours)
    return workbench.cycle(workbench.spec(table), now=LATER), table


def move(workbench, table, *hours):
    """One window, with a file of twenty trades for each of these hours after noon."""
    for hour in hours:
        workbench.insert_trades(table, NOON + timedelta(hours=hour), 20, start_sequence=1000 * hour)
    cycle = workbench.cycle(workbench.spec(table, max_file_rows=20), now=NOON + timedelta(hours=hours[-1] + 0.6))
    workbench.move(cycle, table)


def stage_only(workbench, table):
    """A window whose job dies before it is published."""
    workbench.insert_trades(table, NOON + timedelta(hours=21), 20, start_sequence=10**6)
    cycle = workbench.cycle(workbench.spec(table), now=NOON + timedelta(hours=21.6))
    [plan] = group_plans([("test", cycle.plan(cycle.tables[table]))])
    faults = [Fault(FaultPoint.AUDITED, Kind.RAISE, table).to_json()]
    assert not workbench.spark.ask("move_with_faults", plan.to_json(), faults, str(workbench.wake_file), 1)


def files_of(workbench, table, snapshot_id=None):
    tasks = workbench.cold_table(table).scan(snapshot_id=snapshot_id).plan_files()
    return {unquote(urlparse(task.file.file_path).path) for task in tasks}


def watermark(cycle, table):
    return watermark_of(cycle.catalog.load(cycle.tables[table]).published)


def make_old(workbench, table):
    """All files in the table's folder were written five days ago."""
    folder = workbench.path_of(table)
    for file in folder.rglob("*"):
        os.utime(file, (time.time() - 5 * 86400,) * 2)
    return folder


def two_days_ago():
    return datetime.now(UTC) - timedelta(days=2)


def test_a_closed_day_of_many_files_becomes_one_and_holds_the_same_rows(workbench, scattered):
    cycle, table = scattered
    started = cycle.tiers.now()
    rows, files, before = workbench.cold_rows(table), files_of(workbench, table), watermark(cycle, table)
    old = workbench.cold_table(table).metadata.current_snapshot_id

    would = workbench.maintain(cycle, table, dry_run=True)
    assert (would.rewritten_days, would.problems) == (1, ())
    assert files_of(workbench, table) == files
    assert table not in cycle.ledger.last_maintained(), "nothing was done"
    assert cycle.ledger.last_attempts()[table] == started

    seen = seen_snapshots(cycle.tiers, cycle.tables[table])
    assert list(find_rewrites(cycle.tiers, cycle.tables[table], seen)) == []
    done = workbench.maintain(cycle, table)
    assert (done.rewritten_days, done.problems) == (1, ())
    [told] = find_rewrites(cycle.tiers, cycle.tables[table], seen)
    assert (told.kind, told.window, told.rows) == ("rewrite", day_window(DAY), 6 * 20)
    assert (done.before.files, done.after.files) == (len(files), 2)
    assert (workbench.cold_rows(table), watermark(cycle, table)) == (rows, before)
    assert workbench.cold_table(table).current_snapshot().summary.operation.value == "replace"
    assert files_of(workbench, table, old) == files, "time travel"
    [(written, _)] = [
        (task.file, task) for task in workbench.cold_table(table).scan(f"at < '{DAY}T23:00:00+00:00'").plan_files()
    ]
    assert written.record_count == 6 * 20
    assert cycle.ledger.last_maintained()[table] == started
    [found] = [each for each in cycle.ledger.read_maintenance(started) if each.table == table]
    assert (found.rewritten_days, found.files_before, found.files_after, found.problem) == (1, 7, 2, None)

    assert workbench.maintain(cycle, table).rewritten_days == 0, "twice"
    move(workbench, table, 21)
    workbench.check(workbench.cycle(workbench.spec(table), now=LATER), [table])


def test_that_maintenance_has_begun_with_a_table_is_no_run(ledger):
    ledger.migrate()
    folder = Folder(files=2, size_bytes=20, snapshots=3, metadata_bytes=1)
    ledger.record_maintenance(begun("silver"), NOON, dry_run=False)
    assert (ledger.read_maintenance(NOON), ledger.read_day(DayBounds.of(DAY))[1]) == ([], [])
    assert ledger.last_maintained() == {}
    assert ledger.last_attempts() == {"silver": NOON}

    ledger.record_maintenance(Tidied("silver", folder, folder, 1, 0, 0, 0, 1.0), NOON, dry_run=False)
    ledger.record_maintenance(begun("silver"), NOON + timedelta(hours=1), dry_run=False)
    for runs in (ledger.read_maintenance(NOON), ledger.read_day(DayBounds.of(DAY))[1]):
        assert [(each.rewritten_days, each.problem) for each in runs] == [(1, None)], "the run before is not hidden"
    assert ledger.last_maintained() == {"silver": NOON}
    assert ledger.last_attempts() == {"silver": NOON + timedelta(hours=1)}


def test_days_that_are_over_are_rewritten_in_one_snapshot(workbench, two_days_scattered):
    from pyarrow import parquet

    cycle, table = two_days_scattered
    rows, before = workbench.cold_rows(table), watermark(cycle, table)
    seen = seen_snapshots(cycle.tiers, cycle.tables[table])
    done = workbench.maintain(cycle, table)
    assert (done.rewritten_days, done.problems, done.before.files, done.after.files) == (2, (), 13, 3)
    assert (workbench.cold_rows(table), watermark(cycle, table)) == (rows, before)
    [told] = find_rewrites(cycle.tiers, cycle.tables[table], seen)
    assert (told.window.low, told.window.high, told.rows) == (day_window(DAY).low, day_window(NEXT_DAY).high, 12 * 20)
    assert workbench.cold_table(table).current_snapshot().summary["k2.rewrite"] == f"{DAY},{NEXT_DAY}"
    for day in (DAY, NEXT_DAY):
        [task] = (
            workbench.cold_table(table)
            .scan(f"at >= '{day}T00:00:00+00:00' and at < '{day}T23:00:00+00:00'")
            .plan_files()
        )
        assert task.file.record_count == 6 * 20
        assert f"at_day={day}" in task.file.file_path
        written = parquet.read_table(unquote(urlparse(task.file.file_path).path), columns=["symbol", "at"])
        assert written.equals(written.sort_by([("symbol", "ascending"), ("at", "ascending")]))
    assert workbench.maintain(cycle, table).rewritten_days == 0, "twice"
    move(workbench, table, 41)
    workbench.check(workbench.cycle(workbench.spec(table), now=LATER), [table])


def test_a_day_that_cannot_be_rewritten_does_not_stop_those_beside_it(workbench, two_days_scattered):
    cycle, table = two_days_scattered
    rows = workbench.cold_rows(table)
    away = sorted(workbench.path_of(table).glob(f"data/*{DAY}/*.parquet"))[0]
    kept = away.read_bytes()
    away.unlink()
    done = workbench.maintain(cycle, table)
    [problem] = done.problems
    assert "could not be read" in problem
    assert (done.rewritten_days, done.after.files) == (1, 6 + 1 + 1)
    away.write_bytes(kept)
    done = workbench.maintain(cycle, table)
    assert (done.rewritten_days, done.problems, done.after.files) == (1, (), 3)
    assert workbench.cold_rows(table) == rows


def test_a_day_healed_while_it_is_rewritten_stays_healed(workbench, scattered):
    """Its files are not those that were read: nothing is done."""
    cycle, table = scattered
    workbench.insert_trades(table, NOON + timedelta(minutes=30), 3, start_sequence=10**6)
    days = count_days(cycle.tiers, cycle.tables[table])
    planned = plan_heal(days, compare_day(cycle.tiers, days, DAY), ledger_id=None)
    workbench.maintain(cycle, table)
    assert "files of that day were replaced meanwhile" in workbench.publish(planned)
    days = count_days(cycle.tiers, cycle.tables[table])
    workbench.publish(plan_heal(days, compare_day(cycle.tiers, days, DAY), ledger_id=None))
    workbench.check(cycle, [table])


def test_it_may_fail_at_any_point_and_the_next_run_goes_on(workbench, scattered):
    cycle, table = scattered
    rows = workbench.cold_rows(table)
    make_old(workbench, table)
    options = {"expire_before": FAR_AHEAD, "orphans_before": two_days_ago()}
    for point in MAINTENANCE_POINTS:
        for kind in [Kind.RAISE, *([Kind.LOSE_REPLY] if point in EFFECTS else [])]:
            faults = [Fault(point, kind, table)]
            if point is FaultPoint.REWRITE_STAGED_AGAIN:
                faults.insert(0, Fault(FaultPoint.REWRITE_AUDITED, Kind.INTERFERE, table))
            workbench.maintain(cycle, table, faults, **options)
            assert workbench.cold_rows(table) == rows, (point, kind)
            assert workbench.files_referred_to(table) <= workbench.files_on_disk(table), (point, kind)
    done = workbench.maintain(cycle, table, **options)
    assert (done.problems, done.after.files) == ((), 2)
    move(workbench, table, 21)
    workbench.check(workbench.cycle(workbench.spec(table), now=LATER), [table])


def test_what_another_writer_commits_meanwhile_stays(workbench, scattered):
    cycle, table = scattered
    interference = [Fault(FaultPoint.REWRITE_AUDITED, Kind.INTERFERE, table)]
    done = workbench.maintain(cycle, table, interference)
    assert (done.rewritten_days, done.problems) == (1, ())
    history = workbench.cold_table(table).metadata.snapshots
    assert [each.summary.additional_properties.get("writer") for each in history].count("another") == 1
    workbench.check(cycle, [table])


def test_snapshots_expire_down_to_the_last_window(workbench, scattered_in_windows):
    cycle, table = scattered_in_windows
    rows, before = workbench.cold_rows(table), watermark(cycle, table)
    published = workbench.cold_table(table).metadata.refs[PUBLISHED_BRANCH].snapshot_id
    would = workbench.maintain(cycle, table, dry_run=True, expire_before=FAR_AHEAD)
    assert would.expired_snapshots == 2
    assert len(workbench.cold_table(table).metadata.snapshots) == 3

    done = workbench.maintain(cycle, table, expire_before=FAR_AHEAD)
    left = [each.snapshot_id for each in workbench.cold_table(table).metadata.snapshots]
    assert done.problems == ()
    assert left[0] == published, "the last window, and what came after it"
    assert all("k2.rewrite" in shot.summary.additional_properties for shot in
               workbench.cold_table(table).metadata.snapshots if shot.snapshot_id != published)  # fmt: skip
    assert (workbench.cold_rows(table), watermark(cycle, table)) == (rows, before)
    move(workbench, table, 21)
    workbench.check(workbench.cycle(workbench.spec(table), now=LATER), [table])


def test_nothing_expires_where_a_property_would_take_branches_or_tags_with_it(workbench, scattered_in_windows):
    cycle, table = scattered_in_windows
    cold = workbench.cold_table(table)
    held, not_held = [shot.snapshot_id for shot in cold.metadata.snapshots[:2]]
    cold.manage_snapshots().create_tag(held, f"k2_held_{DAY}").create_tag(not_held, "somebodys").commit()
    with cold.transaction() as change:
        change.set_properties({MAX_REF_AGE: "1"})
    refs = workbench.cold_table(table).metadata.refs
    for dry_run in (True, False):
        done = workbench.maintain(cycle, table, dry_run=dry_run, expire_before=FAR_AHEAD)
        [problem] = done.problems
        assert f"UNSET TBLPROPERTIES ('{MAX_REF_AGE}')" in problem
    left = workbench.cold_table(table).metadata
    assert {name: ref for name, ref in left.refs.items() if name != "main"} == {
        name: ref for name, ref in refs.items() if name != "main"
    }
    with workbench.cold_table(table).transaction() as change:
        change.remove_properties(MAX_REF_AGE)
    assert workbench.maintain(cycle, table, expire_before=FAR_AHEAD).problems == ()
    assert workbench.cold_table(table).metadata.refs.keys() == refs.keys()


def test_nothing_expires_where_a_tag_of_this_project_was_given_a_retention_of_its_own(workbench, scattered_in_windows):
    cycle, table = scattered_in_windows
    held = workbench.cold_table(table).metadata.snapshots[0].snapshot_id
    workbench.cold_table(table).manage_snapshots().create_tag(held, f"k2_held_{DAY}", max_ref_age_ms=1).commit()
    before = workbench.cold_table(table).metadata.snapshots
    [problem] = workbench.maintain(cycle, table, expire_before=FAR_AHEAD).problems
    assert f"'k2_held_{DAY}' of the cold table would go" in problem
    assert "RETAIN of its own" in problem
    assert {each.snapshot_id for each in before} <= {
        each.snapshot_id for each in workbench.cold_table(table).metadata.snapshots
    }
    workbench.cold_table(table).manage_snapshots().remove_tag(f"k2_held_{DAY}").commit()
    assert workbench.maintain(cycle, table, expire_before=FAR_AHEAD).problems == ()


def test_nothing_expires_after_a_rollback(workbench, scattered_in_windows):
    cycle, table = scattered_in_windows
    cold = workbench.cold_table(table)
    earlier = cold.metadata.snapshots[-3].snapshot_id
    cold.manage_snapshots().set_current_snapshot(earlier).commit()
    done = workbench.maintain(cycle, table, expire_before=FAR_AHEAD)
    [problem] = done.problems
    assert "is no ancestor of main" in problem
    assert len(workbench.cold_table(table).metadata.snapshots) >= 3
    workbench.move(cycle, table)
    workbench.move(cycle, table)
    workbench.check(cycle, [table])
    assert workbench.maintain(cycle, table, expire_before=FAR_AHEAD).problems == ()


def test_only_old_files_that_no_snapshot_names_are_removed(workbench, scattered):
    cycle, table = scattered
    before = workbench.files_on_disk(table)
    stage_only(workbench, table)
    staged = workbench.files_on_disk(table) - before
    folder = make_old(workbench, table)
    orphan, young = folder / "data" / "orphan.parquet", folder / "data" / "young.parquet"
    for file in (orphan, young):
        file.write_bytes(b"half of a file")
    os.utime(orphan, (time.time() - 5 * 86400,) * 2)
    would = workbench.maintain(cycle, table, dry_run=True, orphans_before=two_days_ago())
    assert would.orphans >= 1
    assert orphan.exists()

    done = workbench.maintain(cycle, table, orphans_before=two_days_ago())
    assert done.problems == ()
    assert (orphan.exists(), young.exists()) == (False, True)
    assert staged
    assert staged <= workbench.files_on_disk(table), "a staged snapshot names them"
    assert workbench.files_referred_to(table) <= workbench.files_on_disk(table)
    workbench.move(workbench.cycle(workbench.spec(table), now=LATER), table)
    workbench.check(cycle, [table])


def test_a_folder_that_holds_another_table_is_left_alone(workbench, scattered):
    cycle, table = scattered
    folder = make_old(workbench, table)
    orphan = folder / "data" / "orphan.parquet"
    orphan.write_bytes(b"data of the other one")
    make_old(workbench, table)
    own = workbench.path_of(table, workbench.cold_table(table).metadata_location)
    metadata = json.loads(own.read_text())
    others = {
        "another table": {"table-uuid": "00000000-0000-4000-8000-000000000000"},
        "a later state": {"last-sequence-number": metadata["last-sequence-number"] + 100},
    }
    young = own.with_name("00000-other.metadata.json")
    for other, changes in others.items():
        young.write_text(json.dumps(metadata | changes))
        done = workbench.maintain(cycle, table, orphans_before=two_days_ago())
        [problem] = done.problems
        assert other in problem
        assert (young.exists(), orphan.exists(), done.orphans) == (True, True, 0), other

    young.write_text(own.read_text()[:100])
    make_old(workbench, table)
    done = workbench.maintain(cycle, table, orphans_before=two_days_ago())
    assert (done.problems, young.exists(), orphan.exists()) == ((), False, False), "half of a file stops nothing"
