"""Several processes at one table: zombies, second schedulers, other writers. One of them wins, nobody doubles a row."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core.exactly_once import watermark_of
from k2_offload.core.fault_points import FaultPoint
from tests.faults.hook import JOB_POINTS, Fault, Kind
from tests.faults.output import Output

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=20)


@pytest.mark.parametrize("windows_after", [1, 2], ids=["its retry has published", "the next window has followed"])
def test_a_zombie_that_wakes_when(bench, windows_after):
    points = [point for point in JOB_POINTS if point is not FaultPoint.PUBLISHED]
    tables = {point: bench.create_trades(point.name.lower()) for point in points}
    for table in tables.values():
        bench.insert_trades(table, NOON, 500)
    specs = [bench.spec(table) for table in tables.values()]
    cycle = bench.cycle(*specs, now=NOON + timedelta(hours=1))
    planned = [cycle.plan(cycle.tables[table]) for table in tables.values()]
    faults = [Fault(point, Kind.WAIT, table) for point, table in tables.items()]
    faults.append(Fault(FaultPoint.ANCESTORS_CHECKED, Kind.INTERFERE, tables[FaultPoint.STAGED_AGAIN]))
    zombie = Output(bench.start_job(*planned, faults=faults, parallel_tables=len(planned)))
    zombie.wait_for("FAULT wait", times=len(points))

    bench.move(cycle, *tables.values())
    for table in tables.values():
        bench.insert_trades(table, NOON + timedelta(hours=2), 500, start_sequence=1000)
    if windows_after == 2:
        bench.move(bench.cycle(*specs, now=LATER), *tables.values())

    bench.wake_file.touch()
    code, output = zombie.wait_for_end()
    assert ": published" not in output
    assert output.count("already published" if windows_after == 1 else "Nothing was published") == len(points)
    assert code == (0 if windows_after == 1 else 1), output
    final = bench.cycle(*specs, now=LATER)
    if windows_after == 1:
        bench.move(final, *tables.values())
    for table in tables.values():
        assert bench.cold_rows(table) == bench.warm_rows(table)
        assert final.plan(final.tables[table]) is None


def test_two_schedulers_that_plan_move_and_commit_the_same_tables_at_the_same_moment(bench):
    tables = [bench.create_trades(f"t{number}") for number in range(6)]
    for table in tables:
        bench.insert_trades(table, NOON, 2000)
    specs = [bench.spec(table) for table in tables]
    start = threading.Barrier(2)

    def scheduler(number):
        clock = NOON + timedelta(minutes=20 + 7 * number)  # they would choose different windows
        with ExitStack() as resources:
            cycle = bench.cycle(*specs, now=clock, resources=resources)
            start.wait()
            planned = [cycle.plan(cycle.tables[table]) for table in tables]
            code, output = bench.run_job(*planned)
            assert code == 0, output
            start.wait()
            for table in tables:
                cycle.commit(cycle.tables[table])
            return [entry.window_id for entry in planned]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(scheduler, range(2))
    assert first == second  # whoever came second resumed the window of the first
    final = bench.cycle(*specs, now=LATER)
    bench.move(final, *tables)
    for table in tables:
        assert bench.cold_rows(table) == bench.warm_rows(table)


def test_other_writers_between_check_and_publication(bench):
    once, always, compacted = (bench.create_trades(name) for name in ("once", "always", "compacted"))
    specs = [bench.spec(table) for table in (once, always, compacted)]
    cycle = bench.cycle(*specs, now=NOON + timedelta(hours=1))
    for table in (once, always, compacted):
        bench.insert_trades(table, NOON, 500)
    bench.move(cycle, once, always, compacted)
    for table in (once, always, compacted):
        bench.insert_trades(table, NOON + timedelta(hours=2), 500)
    cycle = bench.cycle(*specs, now=LATER)
    planned = [cycle.plan(cycle.tables[table]) for table in (once, always, compacted)]
    faults = [
        Fault(FaultPoint.ANCESTORS_CHECKED, Kind.INTERFERE, once),
        *(Fault(FaultPoint.ANCESTORS_CHECKED, Kind.INTERFERE, always, hit) for hit in range(1, 6)),
        Fault(FaultPoint.ANCESTORS_CHECKED, Kind.WAIT, compacted),
    ]
    job = Output(bench.start_job(*planned, faults=faults))
    job.wait_for("FAULT wait")
    assert "1 files" in bench.compact(compacted)
    bench.wake_file.touch()
    code, output = job.wait_for_end()
    assert code == 1
    assert f"ERROR {always}" in output
    assert "other writers committed to the cold table 5 times in a row" in output
    for table in (once, compacted):
        assert bench.cold_rows(table) == bench.warm_rows(table)

    bench.move(cycle, always)
    for table in (once, always, compacted):
        cycle.commit(cycle.tables[table])
        cold = cycle.catalog.load(cycle.tables[table])
        assert bench.cold_rows(table) == bench.warm_rows(table)
        assert cycle.ledger.read_tables()[table].watermark == watermark_of(cold.published)
