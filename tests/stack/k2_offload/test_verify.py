"""What ``k2 verify`` says of days that differ, row by row, and of a cold table's files alone; on the real stack."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from k2_offload.core.day_comparison import RowKind, Verdict
from k2_offload.work.cold_check import check_cold
from k2_offload.work.compare import compare, compare_day, count_days, read_differing
from k2_offload.work.reconcile import plan_heal, reconcile
from k2_offload.work.tiers import WORKER

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY, NEXT_DAY = NOON.date(), NOON.date() + timedelta(days=1)
LATER = NOON + timedelta(hours=20)


class Moved:
    """A table of two days, 800 rows on the first and 288 on the second, where the last ten seconds wait."""

    def __init__(self, workbench):
        self.workbench = workbench
        self.table = workbench.create_trades()
        for hours, count in ((0, 400), (2, 400), (13, 300)):
            workbench.insert_trades(self.table, NOON + timedelta(hours=hours), count)
            workbench.move(self.cycle(NOON + timedelta(hours=hours + 0.3)), self.table)

    def cycle(self, now=LATER):
        return self.workbench.cycle(self.workbench.spec(self.table), now=now)

    @property
    def spec(self):
        return self.cycle().tables[self.table]

    def compare(self, *days):
        return compare(self.cycle().tiers, self.spec, *days)

    def check(self, *days):
        return check_cold(self.cycle().tiers, self.spec, *days)

    def files(self, day):
        cold = self.cycle().catalog.load(self.spec)
        return [Path(unquote(urlparse(path).path)) for path in cold.files_of_day("at", day)]

    def heal(self):
        cycle = self.cycle()
        days = count_days(cycle.tiers, self.spec)
        self.workbench.publish(plan_heal(days, compare_day(cycle.tiers, days, DAY), ledger_id=None))


@pytest.fixture
def moved(workbench):
    return Moved(workbench)


def test_days_are_chosen_and_rows_that_differ_are_shown_with_what_they_are(workbench, moved):
    equal = moved.compare()
    assert (equal.equal, equal.warm_rows, equal.cold_rows) == (True, 1088, 1088)
    assert equal.warm_hash == equal.cold_hash

    workbench.insert_trades(moved.table, NOON - timedelta(hours=1), 3, start_sequence=10**6)
    workbench.sql(
        f"ALTER TABLE {moved.table} UPDATE note = 'edited' WHERE sequence = 7 AND at > '2026-03-05' "
        "SETTINGS mutations_sync = 2"
    )
    assert [day.scope.day for day in moved.compare().differing] == [DAY, NEXT_DAY]
    assert [day.scope.day for day in moved.compare(DAY, DAY).days] == [DAY]
    assert [day.scope.day for day in moved.compare(NEXT_DAY).days] == [NEXT_DAY]
    assert moved.compare(NEXT_DAY + timedelta(days=1)).window is None

    late, changed = moved.compare().differing
    assert (late.verdict, changed.verdict) == (Verdict.LATE_ROWS, Verdict.CHANGED_ROWS)
    tiers = moved.cycle().tiers
    rows = read_differing(tiers, moved.spec, late, 2)
    assert [(row.kind, row.times, row.values[:2]) for row in rows] == [
        (RowKind.LATE, 1, ("2026-03-04 11:00:00.000000", "1000000")),
        (RowKind.LATE, 1, ("2026-03-04 11:00:00.000000", "1000001")),
    ]
    versions = {row.kind: row.values for row in read_differing(tiers, moved.spec, changed, 2)}
    assert versions[RowKind.WARM_VERSION][4] == "edited"
    assert versions[RowKind.COLD_VERSION][4] == "n7"
    assert versions[RowKind.WARM_VERSION][:4] == versions[RowKind.COLD_VERSION][:4]
    here = replace(tiers, cold_reader=WORKER)
    assert compare(here, moved.spec) == moved.compare()
    for found in (late, changed):
        assert read_differing(here, moved.spec, found, 2) == read_differing(tiers, moved.spec, found, 2)

    moved.heal()
    [healed] = moved.compare(DAY, DAY).days
    assert healed.verdict is Verdict.EQUAL
    assert read_differing(tiers, moved.spec, healed, 2) == []


def test_each_fault_of_a_file_is_named_with_the_file(moved):
    sound = moved.check()
    assert (sound.findings, sound.rows, sound.files) == ([], 1088, len(moved.files(DAY)) + len(moved.files(NEXT_DAY)))
    missing, truncated, *_ = moved.files(DAY)
    flipped = moved.files(NEXT_DAY)[0]
    kept = {file: file.read_bytes() for file in (missing, truncated, flipped)}

    missing.unlink()
    truncated.write_bytes(kept[truncated][:-100])
    flipped.write_bytes(kept[flipped][:40] + bytes(400) + kept[flipped][440:])
    findings = moved.check().findings
    gone, cut, broken = ([each for each in findings if file.name in each] for file in kept)
    assert len(findings) == 3
    assert f"{missing.name} is missing" in gone[0]
    assert f"{truncated.name} is truncated: it has" in cut[0]
    assert f"{flipped.name} cannot be read" in broken[0]
    for [finding], day in ((gone, DAY), (cut, DAY), (broken, NEXT_DAY)):
        assert finding.startswith(f"{moved.table}: data file ")
        assert f"`k2 heal {moved.table} --day {day} --allow-shrink`" in finding
    assert len(moved.check(NEXT_DAY).findings) == 1
    assert moved.compare(DAY, DAY).days[0].verdict is Verdict.UNREADABLE
    here = replace(moved.cycle().tiers, cold_reader=WORKER)
    assert compare(here, moved.spec, DAY, DAY).days[0].verdict is Verdict.UNREADABLE
    for file, content in kept.items():
        file.write_bytes(content)
    assert moved.check().findings == []


def test_a_file_that_is_registered_twice_and_a_key_with_two_rows_are_named(workbench):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON, 100)
    workbench.sql(f"INSERT INTO {table} SELECT * REPLACE (note || '!' AS note) FROM {table} WHERE sequence = 4")
    spec = workbench.spec(table, key_columns="[symbol, at, sequence]", version_column="sequence")
    cycle = workbench.cycle(spec, now=LATER)
    workbench.move(cycle, table)
    [finding] = check_cold(cycle.tiers, cycle.tables[table]).findings
    assert "1 keys (symbol, at, sequence) have more than one row in 2026-03-04, such as symbol = " in finding

    cold = workbench.cold_catalog.load_table(f"cold.{table}")
    [task] = cold.scan().plan_files()
    cold.add_files([task.file.file_path], check_duplicate_files=False)
    twice, _ = check_cold(cycle.tiers, cycle.tables[table]).findings
    assert f"{task.file.file_path} is registered 2 times, so that readers see its 101 rows 2 times" in twice
    assert "k2 heal" in twice
    [doubled] = compare(cycle.tiers, cycle.tables[table]).differing
    assert doubled.verdict is Verdict.COLD_HAS_MORE
    shown = read_differing(cycle.tiers, cycle.tables[table], doubled, 2)
    assert [(row.kind, row.times) for row in shown] == [(RowKind.GONE, 1)] * 2
    here = replace(cycle.tiers, cold_reader=WORKER)
    assert compare(here, cycle.tables[table]).differing == [doubled]
    assert read_differing(here, cycle.tables[table], doubled, 2) == shown
    [found] = reconcile(here, [cycle.tables[table]], [NOON.date()], going_rows=doubled.going_rows)
    assert not found.heals
    assert "the new files could not be read back: [k2_offload] cold_reader is not clickhouse" in found.problems[0]

    assert doubled.obstacle(doubled.going_rows) is None
    workbench.publish(plan_heal(count_days(cycle.tiers, cycle.tables[table]), doubled, ledger_id=None))
    assert compare(cycle.tiers, cycle.tables[table]).equal
    assert check_cold(cycle.tiers, cycle.tables[table]).findings == [finding]
