"""Sealed days: what breaks a seal and what does not, on the real stack."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from k2_offload.adapters.ledger_seals import LedgerSeals
from k2_offload.cli.verify_sealed import accept_sealed
from k2_offload.core import fault_points
from k2_offload.core.errors import OffloadError, StaleWindow
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.observation import SealedDays
from k2_offload.work.accept_seal import accept_changed_day, find_changed_day
from k2_offload.work.reconcile import compare_day, count_days, plan_heal, reconcile
from k2_offload.work.schema import stop_filling
from k2_offload.work.seals import seal_days
from k2_offload.work.verify_seals import verify_due, verify_sealed
from tests.faults.hook import SEAL_POINTS, Fault, Kind, kinds_at
from tests.faults.tasks import run_task
from tests.support import table_file

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = NOON.date()
LATER = NOON + timedelta(days=1, hours=20)
IN_ONE_WINDOW = ((0, 1, 20),)
IN_THREE_WINDOWS = ((0,), (1,), (20,))


def in_order(seal):
    """The lake and the ledger give seals in no order; those of a test are often made at one time."""
    return seal.sealed_at, seal.seal_id


class Sealed:
    """A table of two days, of which the first is over: two files, 40 rows.

    :param windows: the hours after noon of the rows that each moves
    """

    def __init__(self, workbench, windows=IN_ONE_WINDOW):
        self.workbench = workbench
        self.table = workbench.create_trades()
        for *hours, last in windows:
            for hour in hours:
                self.insert(hour, 1000 * hour)
            self.move(last, 1000 * last)
        self.cycle = workbench.cycle(workbench.spec(self.table), now=LATER)
        self.spec = self.cycle.tables[self.table]
        self.tiers = self.cycle.tiers

    def insert(self, hours, start_sequence):
        self.workbench.insert_trades(self.table, NOON + timedelta(hours=hours), 20, start_sequence=start_sequence)

    def move(self, hours, start_sequence):
        self.insert(hours, start_sequence)
        spec = self.workbench.spec(self.table, max_file_rows=20)
        self.workbench.move(self.workbench.cycle(spec, now=NOON + timedelta(hours=hours + 0.6)), self.table)

    def seal(self):
        list(reconcile(self.tiers, [self.spec]))
        return seal_days(self.tiers, [self.spec])

    def verify(self):
        return verify_sealed(self.tiers, self.spec)

    def add_late_rows(self, sequence=10**6, count=3):
        self.workbench.insert_trades(self.table, NOON + timedelta(minutes=30), count, start_sequence=sequence)

    def heal(self):
        days = count_days(self.tiers, self.spec)
        self.workbench.publish(plan_heal(days, compare_day(self.tiers, days, DAY), ledger_id=None))

    def recorded(self):
        return sorted(LedgerSeals(self.tiers.ledger).read([self.table]), key=lambda each: in_order(each.seal))

    def in_lake(self):
        seals, _ = self.tiers.catalog.seals("cold").read()
        return sorted((seal for seal in seals if seal.table == self.table), key=in_order)

    def cold(self):
        return self.workbench.cold_catalog.load_table(f"cold.{self.table}")

    def forget(self, *, in_lake=True, in_ledger=True, which="seal_id IS NOT NULL"):
        chosen = f"table_name = '{self.table}' AND {which}"
        if in_lake:
            self.workbench.cold_catalog.load_table("cold.k2_seals").delete(chosen)
        if in_ledger:
            with self.tiers.ledger.transaction() as cursor:
                cursor.execute(f"DELETE FROM k2_offload.offload_seals WHERE {chosen}")

    def files(self):
        paths = self.cycle.catalog.load(self.spec).files_of_day("at", DAY)
        return [self.workbench.path_of(self.table, path) for path in paths]


@pytest.fixture
def sealed(workbench):
    return make_sealed(workbench)


def make_sealed(workbench, windows=IN_ONE_WINDOW):
    made = Sealed(workbench, windows)
    done = made.seal()
    assert done.problems == []
    assert [(seal.day, seal.rows, seal.before) for seal in done.seals] == [(DAY, 40, None)]
    return made


def test_a_sealed_day_stays_whole_through_compaction(workbench, sealed):
    found = sealed.verify()
    assert (found.findings, found.days, found.rows, found.newest) == ([], 1, 40, DAY)
    assert sealed.seal().seals == [], "twice"
    here = replace(sealed.tiers, cold_reader="worker")
    assert verify_sealed(here, sealed.spec).findings == []
    assert workbench.compact(sealed.table) == [3]
    found = sealed.verify()
    assert (found.findings, found.notes, found.days) == ([], [], 1)
    assert verify_due(sealed.tiers, [sealed.spec]) == []
    [recorded] = sealed.recorded()
    assert recorded.verified_snapshot == sealed.cycle.catalog.load(sealed.spec).snapshot_id
    sealed_days = LedgerSeals(sealed.tiers.ledger).read_sealed_days()
    assert sealed_days[sealed.table] == SealedDays(1, DAY, 0, recorded.verified_at)


def test_a_row_that_another_writer_removes_breaks_the_seal(sealed):
    cold = sealed.cold()
    cold.delete("sequence = 7 and at < '2026-03-04T13:00:00+00:00'")
    first = sealed.cold().metadata.current_snapshot_id
    sealed.move(21, 10**5)
    [finding] = sealed.verify().findings
    assert finding.startswith(f"{sealed.table} {DAY}: its seal is broken")
    assert f"the first snapshot that differs is {first}." in finding
    assert verify_due(sealed.tiers, [sealed.spec]) == [finding]
    assert sealed.recorded()[0].problem == finding
    assert sealed.seal().seals == [], "never resealed"


def test_a_day_that_was_changed_on_purpose_is_accepted_by_a_person(sealed, capsys):
    with sealed.workbench.cold_catalog.load_table("cold.k2_seals").update_schema() as schema:
        schema.delete_column("accepted")  # as a version before has made it
    with pytest.raises(OffloadError, match="There is nothing to accept"):
        accept_sealed(sealed.tiers, sealed.spec, DAY, as_json=False, yes=True)
    sealed.cold().delete("sequence = 7 and at < '2026-03-04T13:00:00+00:00'")
    with pytest.raises(OffloadError, match=rf"differs from it .*`k2 heal {sealed.table} --day {DAY} --dry-run`"):
        accept_sealed(sealed.tiers, sealed.spec, DAY, as_json=False, yes=True)
    [first] = sealed.in_lake()

    expired = sealed.workbench.cycle(sealed.workbench.spec(sealed.table), now=LATER + timedelta(days=10)).tiers
    slow = find_changed_day(expired, sealed.spec, DAY)
    accept_sealed(expired, sealed.spec, DAY, as_json=False, yes=True)
    shown = capsys.readouterr().out
    assert "its seal is broken" in shown
    assert "accepted, and sealed" in shown
    [successor] = [seal for seal in sealed.in_lake() if seal.accepted]
    assert (successor.rows, successor.before) == (39, first.seal_id)
    with pytest.raises(StaleWindow, match="sealed anew meanwhile"):
        accept_changed_day(expired, sealed.spec, slow)
    sealed.forget(in_lake=False)
    assert verify_due(sealed.tiers, [sealed.spec]) == []
    assert [each.seal.accepted for each in sealed.recorded()] == [False, True]
    found = sealed.verify()
    assert found.findings == []
    assert "its rows were accepted at" in found.notes[0]
    sealed.cold().delete("sequence = 8 and at < '2026-03-04T13:00:00+00:00'")
    assert "39 rows any more that were sealed" in sealed.verify().findings[0]


def test_other_rows_of_the_same_count_break_the_seal(sealed):
    import pyarrow.compute

    cold = sealed.cold()
    rows = cold.scan("at < '2026-03-05T00:00:00+00:00'").to_arrow()
    place = rows.schema.get_field_index("symbol")
    changed = rows.set_column(place, rows.schema.field(place), pyarrow.compute.utf8_lower(rows["symbol"]))
    cold.overwrite(changed, "at < '2026-03-05T00:00:00+00:00'")
    chain = sealed.cycle.catalog.load(sealed.spec).chain.ancestors()
    [finding] = sealed.verify().findings
    named = int(finding.split("the first snapshot that differs is ")[1].split(".")[0])
    assert named in [snapshot.snapshot_id for snapshot in chain[:2]]


def test_a_flipped_bit_breaks_the_seal(sealed):
    file = sealed.files()[0]
    content = bytearray(file.read_bytes())
    content[60] ^= 1
    file.write_bytes(content)
    [finding] = sealed.verify().findings
    assert f"{sealed.table} {DAY}: its seal is broken" in finding
    assert "no snapshot changed it: its files are not what they were in the sealed snapshot" in finding


def test_a_late_row_makes_a_successor(sealed):
    sealed.add_late_rows()
    assert sealed.seal().seals == [], "not equal"
    sealed.heal()
    assert "healed since it was sealed" in sealed.verify().notes[0]
    [first] = sealed.in_lake()
    [successor] = sealed.seal().seals
    assert (successor.rows, successor.before) == (43, first.seal_id)
    found = sealed.verify()
    assert (found.findings, found.notes, found.days, found.rows) == ([], [], 1, 43)
    assert sealed.seal().seals == []


def test_a_day_changed_and_then_healed_is_not_resealed(sealed):
    sealed.cold().delete("sequence = 7 and at < '2026-03-04T13:00:00+00:00'")
    first = sealed.cold().metadata.current_snapshot_id
    sealed.add_late_rows()
    sealed.heal()
    done = sealed.seal()
    assert done.seals == []
    assert any(f"the first snapshot that differs is {first}." in problem for problem in done.problems)
    assert len(sealed.in_lake()) == 1


def test_a_day_that_a_heal_brings_back_is_whole(sealed):
    sealed.cold().delete("sequence = 7 and at < '2026-03-04T13:00:00+00:00'")
    assert sealed.verify().findings
    sealed.heal()
    assert sealed.verify().findings == []
    assert sealed.seal().seals == []


def die(made, point, kind):
    """A task that seals meets a fault."""
    fault, file = Fault(point, kind, made.table), table_file([made.workbench.spec(made.table)])
    code = run_task("seal", fault, file, [made.table], LATER)
    assert code == {Kind.KILL: -9, Kind.HANG: -9}.get(kind, 1), (point, kind)


def seals_on_both_sides(made):
    return len(made.in_lake()), len(made.recorded())


def test_sealing_may_die_at_any_point_by_any_fault(workbench):
    """The first seal of a day, whose ledger is lost then; and, as the model tries the rest, its successor."""
    made = Sealed(workbench)
    list(reconcile(made.tiers, [made.spec]))
    durable = {FaultPoint.SEAL_COMPARED: (0, 0), FaultPoint.SEALED_IN_LAKE: (1, 0), FaultPoint.SEALED: (1, 1)}
    cases = [(point, kind) for point in SEAL_POINTS for kind in kinds_at(point)]
    for point, kind in cases:
        die(made, point, kind)
        assert seals_on_both_sides(made) == durable[point], (point, kind)
        made.forget(in_lake=False)
        assert seal_days(made.tiers, [made.spec]).problems == []
        [seal] = made.in_lake()
        assert [each.seal for each in made.recorded()] == [seal], (point, kind)
        made.forget()

    made.seal()
    made.add_late_rows()
    made.heal()
    list(reconcile(made.tiers, [made.spec]))
    for point in SEAL_POINTS:
        die(made, point, Kind.KILL)
        assert seals_on_both_sides(made) == tuple(1 + seals for seals in durable[point]), point
        assert seal_days(made.tiers, [made.spec]).problems == []
        [successor] = [seal for seal in made.in_lake() if seal.before is not None]
        assert successor.rows == 43
        assert {each.seal.seal_id for each in made.recorded()} == {successor.seal_id, successor.before}, point
        found = made.verify()
        assert (found.findings, found.notes) == ([], []), point
        made.forget(which="before IS NOT NULL")


def test_two_sealings_at_once_make_one_seal(workbench):
    made = Sealed(workbench)
    list(reconcile(made.tiers, [made.spec]))
    cycles = [workbench.cycle(workbench.spec(made.table), now=LATER) for _ in range(2)]
    meet = threading.Barrier(2)
    fault_points.arm(lambda point, _: meet.wait(60) if point is FaultPoint.SEAL_COMPARED else None)
    with ThreadPoolExecutor(2) as both:
        done = [each.result() for each in [both.submit(seal_days, each.tiers, [made.spec]) for each in cycles]]
    fault_points.arm(None)
    assert sorted(len(each.seals) for each in done) == [0, 1]
    assert not any(each.problems for each in done)
    assert len(made.in_lake()) == 1


def test_seals_that_either_side_has_lost_come_back(sealed):
    import pyarrow.compute

    sealed.add_late_rows()
    sealed.heal()
    sealed.seal()
    both = sealed.in_lake()
    sealed.forget(in_lake=False)
    assert (len(both), sealed.recorded(), sealed.verify().findings) == (2, [], [])
    assert verify_due(sealed.tiers, [sealed.spec]) == []
    assert [each.seal for each in sealed.recorded()] == both

    sealed.forget(in_ledger=False)
    assert "2 seals are in the ledger alone" in sealed.verify().findings[0]
    assert verify_due(sealed.tiers, [sealed.spec]) == []
    assert (sealed.in_lake(), sealed.verify().findings) == (both, [])

    lake = sealed.workbench.cold_catalog.load_table("cold.k2_seals")
    altered = lake.scan(f"table_name = '{sealed.table}'").to_arrow()
    place = altered.schema.get_field_index("rows")
    wrong = pyarrow.compute.add(altered["rows"], 1)
    lake.overwrite(altered.set_column(place, altered.schema.field(place), wrong), f"table_name = '{sealed.table}'")
    assert "was altered by hand" in sealed.verify().findings[0]
    sealed.forget()


def test_a_foreign_seal_that_was_taken_out_does_not_come_back(sealed):
    own, before = sealed.in_lake(), sealed.workbench.cold_catalog.load_table("cold.k2_seals").current_snapshot()
    lake = sealed.tiers.catalog.seals("cold")
    lake.read()
    lake.append([replace(own[0], rows=41)])
    for _ in range(2):
        [finding] = verify_due(sealed.tiers, [sealed.spec])
        assert "its 2 seals are not one chain" in finding
        assert sealed.verify().findings[0] == finding
    seals = sealed.workbench.cold_catalog.load_table("cold.k2_seals")
    seals.manage_snapshots().rollback_to_snapshot(before.snapshot_id).commit()
    [finding] = verify_due(sealed.tiers, [sealed.spec])
    assert "its 2 seals are not one chain" in finding
    assert sealed.in_lake() == own
    [foreign] = [each.seal.seal_id for each in sealed.recorded() if each.seal not in own]
    with psycopg.connect(sealed.workbench.stack.ledger_dsn) as connection:
        connection.execute("DELETE FROM k2_offload.offload_seals WHERE seal_id = %s", [foreign])
    assert verify_due(sealed.tiers, [sealed.spec]) == []
    assert (sealed.in_lake(), [each.seal for each in sealed.recorded()]) == (own, own)
    assert sealed.verify().findings == []


def test_a_day_rolled_back_while_it_is_sealed_is_not(workbench):
    made = Sealed(workbench, IN_THREE_WINDOWS)
    list(reconcile(made.tiers, [made.spec]))
    first = made.cold().metadata.snapshots[0].snapshot_id

    def roll_back(point, _):
        if point is FaultPoint.SEAL_COMPARED:
            made.cold().manage_snapshots().rollback_to_snapshot(first).commit()

    fault_points.arm(roll_back)
    done = seal_days(made.tiers, [made.spec])
    fault_points.arm(None)
    assert (done.seals, done.problems, made.in_lake()) == ([], [], [])


def test_a_rollback_below_the_seal_is_told(workbench):
    sealed = make_sealed(workbench, IN_THREE_WINDOWS)
    first = sealed.cold().metadata.snapshots[0].snapshot_id
    workbench.spark.ask("sql", sealed.cycle.catalog.load(sealed.spec).rollback_statement(first))
    [finding] = sealed.verify().findings
    assert f"main was rolled back below the sealed snapshot {sealed.in_lake()[0].snapshot_id}, to {first}" in finding


def test_columns_that_come_or_stop_break_no_seal(workbench):
    sealed = Sealed(workbench)
    for hours, column in enumerate(("venue String DEFAULT 'x'", "fast Bool", "slow Bool"), start=21):
        workbench.sql(f"ALTER TABLE {sealed.table} ADD COLUMN {column} SETTINGS mutations_sync = 2")
        sealed.move(hours, 1000 * hours)
    sealed.add_late_rows()
    sealed.heal()
    assert len(sealed.seal().seals) == 1, "what the heal said of old rows is sealed, too"
    assert not sealed.verify().findings
    sealed.add_late_rows(2 * 10**6)
    sealed.heal()
    assert [seal.before is None for seal in sealed.seal().seals] == [False]
    assert not sealed.verify().findings


def test_a_column_that_is_not_filled_any_more_breaks_no_seal(workbench):
    sealed = Sealed(workbench)
    stop_filling(sealed.tiers, sealed.spec, "note")
    assert len(sealed.seal().seals) == 1
    assert not sealed.verify().findings
