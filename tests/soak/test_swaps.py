"""Heals, windows, maintenance and a reader at one table at once: a reader sees the old rows or the new ones.

All at the same time: late trades come ten at a time and are healed, windows are published, days are rewritten,
snapshots expire, and files that no snapshot names are removed as soon as they are some seconds old. K2_SWAPS changes
how many heals there are.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from k2_offload.core.errors import OffloadError
from k2_offload.core.plan import Plan, group_plans
from k2_offload.work.maintenance import plan_all
from k2_offload.work.reconcile import reconcile
from tests.soak.jobs import Jobs
from tests.support.cold import load_cold_table
from tests.support.workbench import Workbench

START = datetime(2026, 3, 4, 1, tzinfo=UTC)
END = START + timedelta(hours=22)
FAR_AHEAD = datetime(2100, 1, 1, tzinfo=UTC)
LATE_ROWS, WINDOW_ROWS = 10, 20
FIRST_LATE = 10**6
SECONDS_IN_FLIGHT = 60
"""No job of this test takes so long from writing a file to staging it."""


class Table:
    """What several threads do to one table.

    :param log: where the jobs' output goes
    """

    def __init__(self, stack, folder, resources, log):
        self.bench = Workbench(stack, folder, "swaps", resources, None, stack.settings.warehouse)
        self.name = self.bench.create_trades()
        self.resources, self.log = resources, log
        self.ended = threading.Event()
        self.done = Counter()

    def jobs(self):
        jobs = Jobs(self.log)
        self.resources.callback(jobs.close)
        return jobs

    def cycle(self, now):
        return self.bench.cycle(self.bench.spec(self.name), now=now)

    def publish(self, number, jobs):
        """One window, whole."""
        first = START + timedelta(minutes=number)
        self.bench.insert_trades(self.name, first, WINDOW_ROWS, step_micros=1000, start_sequence=number * WINDOW_ROWS)
        with ExitStack() as resources:
            spec, now = self.bench.spec(self.name), first + timedelta(minutes=40)
            cycle = self.bench.cycle(spec, now=now, resources=resources)
            planned = cycle.plan(cycle.tables[self.name])
            while not jobs.run(Plan("swaps", (planned,)).to_json()):
                self.done["windows again"] += 1
            cycle.commit(cycle.tables[self.name])
        self.done["windows"] += 1

    def publish_windows(self):
        jobs, number = self.jobs(), 1
        while not self.ended.is_set():
            self.publish(number, jobs)
            number += 1

    def heal(self, rounds):
        jobs, cycle = self.jobs(), self.cycle(END)
        table = cycle.tables[self.name]
        try:
            for number in range(rounds):
                sequence = FIRST_LATE + number * LATE_ROWS
                self.bench.insert_trades(self.name, START - timedelta(minutes=20), LATE_ROWS, start_sequence=sequence)
                while heals := [("swaps", heal) for found in reconcile(cycle.tiers, [table]) for heal in found.heals]:
                    [plan] = group_plans(heals)
                    jobs.run(plan.to_json())
                    self.done["heals tried"] += 1
                self.done["heals"] += 1
        finally:
            self.ended.set()

    def maintain(self):
        jobs, cycle = self.jobs(), self.cycle(END)
        folder = self.bench.stack.settings.warehouse / "cold" / self.name
        while not self.ended.is_set():
            now = time.time()
            for file in [each for each in folder.rglob("*") if each.is_file()]:
                with suppress(FileNotFoundError):  # old metadata goes with each commit
                    if now - file.stat().st_mtime > SECONDS_IN_FLIGHT:
                        os.utime(file, (now - 5 * 86400,) * 2)
            plan, _ = plan_all(cycle.tiers, [cycle.tables[self.name]], dry_run=False)
            limits = {"orphans_before": datetime.now(UTC) - timedelta(days=2), "expire_before": FAR_AHEAD}
            tables = [replace(planned, closed_before=FAR_AHEAD, **limits) for planned in plan.tables]
            jobs.maintain(replace(plan, tables=tuple(tables)).to_json(), [])
            self.done["maintenance"] += 1

    def read(self):
        """Every window and every heal is there as a whole or not at all, and stays."""
        seen: set[int] = set()
        while not self.ended.is_set():
            try:
                cold = load_cold_table(self.name).scan(selected_fields=("sequence",)).to_arrow()
            except FileNotFoundError:  # of a snapshot that has expired since it was looked up
                self.done["reads again"] += 1
                load_cold_table(self.name).scan(selected_fields=("sequence",)).to_arrow()
                continue
            sequences = Counter(cold["sequence"].to_pylist())
            assert max(sequences.values()) == 1, "a row is there twice"
            late = Counter(each // LATE_ROWS for each in sequences if each >= FIRST_LATE)
            windows = Counter(each // WINDOW_ROWS for each in sequences if each < FIRST_LATE)
            assert set(late.values()) <= {LATE_ROWS}, f"half of a heal: {late}"
            assert set(windows.values()) <= {WINDOW_ROWS}, f"half of a window: {windows}"
            assert seen <= set(sequences), f"{len(seen - set(sequences))} rows are gone"
            seen = set(sequences)
            self.done["reads"] += 1


def test_a_reader_sees_the_old_rows_or_the_new_ones(stack, tmp_path):
    rounds = int(os.environ.get("K2_SWAPS", "200"))
    with ExitStack() as resources:
        log = resources.enter_context((tmp_path / "jobs.log").open("w"))
        table = Table(stack, tmp_path, resources, log)
        table.publish(0, table.jobs())
        with ThreadPoolExecutor(4) as pool:
            work = [table.publish_windows, table.maintain, table.read]
            ends = [pool.submit(_ending, table.ended, each) for each in work]
            ends.append(pool.submit(table.heal, rounds))
            for end in ends:
                end.result()
        print(dict(table.done), f"log: {tmp_path / 'jobs.log'}")
        bench, name = table.bench, table.name
        assert table.done["heals"] == rounds
        assert bench.cold_rows(name) == bench.warm_rows(name)
        assert bench.files_referred_to(name) <= bench.files_on_disk(name)


def _ending(ended, work):
    """One thread's failure ends all."""
    try:
        work()
    except (AssertionError, OffloadError, OSError):
        ended.set()
        raise
