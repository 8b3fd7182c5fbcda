"""Several processes at one table: zombies, second schedulers, other writers. One of them wins, nobody doubles a row."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core.exactly_once import WindowId, watermark_of
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.plan import Plan
from tests.faults.hook import JOB_POINTS, Fault, Kind
from tests.faults.output import Output

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=20)


@pytest.mark.parametrize("windows_after", [1, 2], ids=["its retry has published", "the next window has followed"])
def test_a_zombie_that_wakes_when(workbench, windows_after):
    points = [point for point in JOB_POINTS if point is not FaultPoint.PUBLISHED]
    tables = {point: workbench.create_trades(point.name.lower()) for point in points}
    for table in tables.values():
        workbench.insert_trades(table, NOON, 500)
    specs = [workbench.spec(table) for table in tables.values()]
    cycle = workbench.cycle(*specs, now=NOON + timedelta(hours=1))
    planned = [cycle.plan(cycle.tables[table]) for table in tables.values()]
    faults = [Fault(point, Kind.WAIT, table) for point, table in tables.items()]
    faults.append(Fault(FaultPoint.ANCESTORS_CHECKED, Kind.INTERFERE, tables[FaultPoint.STAGED_AGAIN]))
    zombie = Output(workbench.start_job(*planned, faults=faults, parallel_tables=len(planned)))
    zombie.wait_for("FAULT wait", times=len(points))

    workbench.move(cycle, *tables.values())
    for table in tables.values():
        workbench.insert_trades(table, NOON + timedelta(hours=2), 500, start_sequence=1000)
    if windows_after == 2:
        workbench.move(workbench.cycle(*specs, now=LATER), *tables.values())

    workbench.wake_file.touch()
    code, output = zombie.wait_for_end()
    assert ": published" not in output
    assert output.count("already published" if windows_after == 1 else "Nothing was published") == len(points)
    assert code == (0 if windows_after == 1 else 1), output
    final = workbench.cycle(*specs, now=LATER)
    if windows_after == 1:
        workbench.move(final, *tables.values())
    for table in tables.values():
        assert workbench.cold_rows(table) == workbench.warm_rows(table)
        assert final.plan(final.tables[table]) is None


def test_a_window_made_smaller_and_a_zombie_that_still_moves_the_larger_one(workbench):
    smaller_first, larger_first = tables = [workbench.create_trades(name) for name in ("smaller", "larger")]
    for table in tables:
        workbench.insert_trades(table, NOON, 500)
    cycle = workbench.cycle(*(workbench.spec(table) for table in tables), now=NOON + timedelta(hours=1))
    larger = [cycle.plan(cycle.tables[table]) for table in tables]
    faults = [Fault(FaultPoint.ANCESTORS_CHECKED, Kind.WAIT, table) for table in tables]
    zombie = Output(workbench.start_job(*larger, faults=faults))
    zombie.wait_for("FAULT wait", times=2)
    for _ in range(2):
        for table in tables:
            cycle.plan(cycle.tables[table])
            cycle.commit(cycle.tables[table])  # two runs have ended, and it is still open
    smaller = {table: cycle.plan(cycle.tables[table]) for table in tables}
    for planned, table in zip(larger, tables, strict=True):
        low, high = (WindowId.parse(each.window_id).window for each in (smaller[table], planned))
        assert (low.low, low.high < high.high) == (high.low, True)
        assert 200 < smaller[table].rows <= planned.rows / 2
        assert cycle.ledger.read_tables()[table].row_limit == smaller[table].rows

    workbench.publish(smaller[smaller_first])
    workbench.wake_file.touch()
    code, output = zombie.wait_for_end()
    assert code == 1
    assert f"ERROR {smaller_first}" in output
    assert output.count(": published 500 rows") == 1, output
    done, output = workbench.spark.ask("move", Plan("test", (smaller[larger_first],)).to_json(), 4)
    assert (done, "the cold table ends at" in output) == (False, True)
    for table in tables:
        cycle.commit(cycle.tables[table])
        while workbench.move(cycle, table):
            pass
    workbench.check(cycle, tables)


def test_two_schedulers_that_plan_move_and_commit_the_same_tables_at_the_same_moment(workbench):
    tables = [workbench.create_trades(f"t{number}") for number in range(6)]
    for table in tables:
        workbench.insert_trades(table, NOON, 2000)
    specs = [workbench.spec(table) for table in tables]
    start = threading.Barrier(2)

    def scheduler(number):
        clock = NOON + timedelta(minutes=20 + 7 * number)  # they would choose different windows
        with ExitStack() as resources:
            cycle = workbench.cycle(*specs, now=clock, resources=resources)
            start.wait()
            planned = [cycle.plan(cycle.tables[table]) for table in tables]
            code, output = workbench.run_job(*planned)
            assert code == 0, output
            start.wait()
            for table in tables:
                cycle.commit(cycle.tables[table])
            return [entry.window_id for entry in planned]

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(scheduler, range(2))
    assert first == second  # whoever came second resumed the window of the first
    final = workbench.cycle(*specs, now=LATER)
    workbench.move(final, *tables)
    for table in tables:
        assert workbench.cold_rows(table) == workbench.warm_rows(table)


def test_other_writers_between_check_and_publication(workbench):
    once, always, compacted = (workbench.create_trades(name) for name in ("once", "always", "compacted"))
    # jdbc starts a session, in which pyspark puts some of Java's exceptions into classes of its own.
    specs = [workbench.spec(once, transport="jdbc"), workbench.spec(always), workbench.spec(compacted)]
    cycle = workbench.cycle(*specs, now=NOON + timedelta(hours=1))
    for table in (once, always, compacted):
        workbench.insert_trades(table, NOON, 500)
    workbench.move(cycle, once, always, compacted)
    for table in (once, always, compacted):
        workbench.insert_trades(table, NOON + timedelta(hours=2), 500)
    cycle = workbench.cycle(*specs, now=LATER)
    planned = [cycle.plan(cycle.tables[table]) for table in (once, always, compacted)]
    faults = [
        Fault(FaultPoint.ANCESTORS_CHECKED, Kind.INTERFERE, once),
        *(Fault(FaultPoint.ANCESTORS_CHECKED, Kind.INTERFERE, always, hit) for hit in range(1, 6)),
        Fault(FaultPoint.ANCESTORS_CHECKED, Kind.WAIT, compacted),
    ]
    job = Output(workbench.start_job(*planned, faults=faults))
    job.wait_for("FAULT wait")
    assert workbench.compact(compacted) == [1]
    workbench.wake_file.touch()
    code, output = job.wait_for_end()
    assert code == 1
    assert f"ERROR {always}" in output
    assert "other writers committed to the cold table 5 times in a row" in output
    for table in (once, compacted):
        assert workbench.cold_rows(table) == workbench.warm_rows(table)

    workbench.move(cycle, always)
    for table in (once, always, compacted):
        cycle.commit(cycle.tables[table])
        cold = cycle.catalog.load(cycle.tables[table])
        assert workbench.cold_rows(table) == workbench.warm_rows(table)
        assert cycle.ledger.read_tables()[table].watermark == watermark_of(cold.published)
