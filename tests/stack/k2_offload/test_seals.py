"""Sealed days: what breaks a seal and what does not, on the real stack."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlparse

import pyarrow.compute
import pytest

from k2_offload.adapters.ledger_seals import LedgerSeals
from k2_offload.core import fault_points
from k2_offload.core.errors import OffloadError
from k2_offload.core.fault_points import FaultPoint
from k2_offload.work.reconcile import compare_day, count_days, plan_heal, reconcile
from k2_offload.work.seals import seal_days, verify_due, verify_sealed

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY = NOON.date()
LATER = NOON + timedelta(days=1, hours=20)


class Sealed:
    """A table of two days, of which the first is sealed: five files, 100 rows."""

    def __init__(self, workbench):
        self.workbench = workbench
        self.table = workbench.create_trades()
        for window, hours in enumerate((0, 1, 2, 3, 4, 20)):
            self.move(hours, 1000 * window)
        self.cycle = workbench.cycle(workbench.spec(self.table), now=LATER)
        self.spec = self.cycle.tables[self.table]
        self.tiers = self.cycle.tiers

    def move(self, hours, start_sequence):
        self.workbench.insert_trades(self.table, NOON + timedelta(hours=hours), 20, start_sequence=start_sequence)
        cycle = self.workbench.cycle(self.workbench.spec(self.table), now=NOON + timedelta(hours=hours + 0.6))
        self.workbench.move(cycle, self.table)

    def seal(self):
        list(reconcile(self.tiers, [self.spec]))
        return seal_days(self.tiers, [self.spec])

    def verify(self):
        return verify_sealed(self.tiers, self.spec)

    def add_late_rows(self, sequence=10**6, count=3):
        self.workbench.insert_trades(self.table, NOON + timedelta(minutes=30), count, start_sequence=sequence)

    def heal(self):
        days = count_days(self.tiers, self.spec)
        self.workbench.publish(plan_heal(days, compare_day(self.tiers, days, DAY)))

    def recorded(self):
        return LedgerSeals(self.tiers.ledger).read([self.table])

    def in_lake(self):
        seals = self.tiers.catalog.seals("cold").read()
        return [seal for seal in seals if seal.table == self.table]

    def cold(self):
        return self.workbench.cold_catalog.load_table(f"cold.{self.table}")

    def files(self):
        paths = self.cycle.catalog.load(self.spec).files_of_day("at", DAY)
        return [Path(unquote(urlparse(path).path)) for path in paths]


@pytest.fixture
def sealed(workbench):
    made = Sealed(workbench)
    done = made.seal()
    assert done.problems == []
    assert [(seal.day, seal.rows, seal.before) for seal in done.seals] == [(DAY, 100, None)]
    return made


def test_a_sealed_day_stays_whole_through_compaction(workbench, sealed):
    found = sealed.verify()
    assert (found.findings, found.days, found.rows, found.newest) == ([], 1, 100, DAY)
    assert sealed.seal().seals == [], "twice"
    assert workbench.maintain(sealed.cycle, sealed.table).rewritten_days == 1
    workbench.compact(sealed.table)
    sealed.move(21, 10**5)
    found = sealed.verify()
    assert (found.findings, found.notes, found.days) == ([], [], 1)
    assert list(verify_due(sealed.tiers, [sealed.spec])) == []
    [recorded] = sealed.recorded()
    assert recorded.verified_snapshot == sealed.cycle.catalog.load(sealed.spec).snapshot_id


def test_a_row_that_another_writer_removes_breaks_the_seal(sealed):
    cold = sealed.cold()
    cold.delete("sequence = 7 and at < '2026-03-04T13:00:00+00:00'")
    first = sealed.cold().metadata.current_snapshot_id
    sealed.move(21, 10**5)
    [finding] = sealed.verify().findings
    assert finding.startswith(f"{sealed.table} {DAY}: its seal is broken")
    assert f"the first snapshot that differs is {first};" not in finding
    assert f"the first snapshot that differs is {first}." in finding
    assert list(verify_due(sealed.tiers, [sealed.spec])) == [finding]
    assert sealed.recorded()[0].problem == finding
    assert sealed.seal().seals == [], "never resealed"


def test_other_rows_of_the_same_count_break_the_seal(sealed):
    cold = sealed.cold()
    rows = cold.scan("at < '2026-03-05T00:00:00+00:00'").to_arrow()
    place = rows.schema.get_field_index("symbol")
    changed = rows.set_column(place, rows.schema.field(place), pyarrow.compute.utf8_lower(rows["symbol"]))
    cold.overwrite(changed, "at < '2026-03-05T00:00:00+00:00'")
    chain = sealed.cycle.catalog.load(sealed.spec).day_history("at", DAY).ancestors()
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
    assert (successor.rows, successor.before) == (103, first.seal_id)
    found = sealed.verify()
    assert (found.findings, found.notes, found.days, found.rows) == ([], [], 1, 103)
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


def test_a_rollback_below_the_seal_is_told(workbench, sealed):
    first = sealed.cold().metadata.snapshots[0].snapshot_id
    workbench.spark.ask("sql", sealed.cycle.catalog.load(sealed.spec).rollback_statement(first))
    [finding] = sealed.verify().findings
    assert f"main was rolled back below the sealed snapshot {sealed.in_lake()[0].snapshot_id}, to {first}" in finding
