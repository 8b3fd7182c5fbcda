"""One table that windows, heals, seals and maintenance change at once, and what readers of it may see."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

from clickhouse_driver.errors import ServerException

from k2_offload.core.plan import Plan, group_plans
from k2_offload.work.combined_view import renew_views
from k2_offload.work.maintenance import plan_all
from k2_offload.work.reconcile import reconcile
from k2_offload.work.seals import seal_days
from tests.soak.jobs import Jobs
from tests.support.cold import load_cold_table
from tests.support.workbench import Workbench

DAY = timedelta(days=1)
OLD_DAYS = 3
OLD_ROWS, WINDOW_ROWS, LATE_ROWS = 6000, 20, 10
FIRST_IN_WINDOW, FIRST_LATE = 10**6, 2 * 10**6
SECONDS_IN_FLIGHT = 60
"""No job of this test takes so long from writing a file to staging it, and no view is older."""
ZONES = ("UTC", "America/New_York", "Asia/Kolkata")
QUESTIONS = (
    "SELECT toDate(at) AS day, symbol, count(), sum(price), count(note) FROM {0} WHERE {1} "
    "GROUP BY day, symbol ORDER BY ALL",
    "SELECT count(), sum(sequence) FROM {0} WHERE {1} AND at >= toDateTime('{2:%Y-%m-%d} 20:00:00')",
    "SELECT count(), sum(sequence) FROM {0} WHERE {1} AND at < toDateTime('{2:%Y-%m-%d} 03:00:00')",
    "SELECT a.sequence, b.price FROM (SELECT * FROM {0} WHERE {1}) AS a JOIN (SELECT * FROM {0} WHERE {1}) AS b "
    "ON a.at = b.at AND a.symbol != b.symbol WHERE toDate(a.at) = '{2:%Y-%m-%d}' ORDER BY ALL LIMIT 50",
)
"""With the name of a table, the condition on rows that stay as they are, and a day."""


class Table:
    """Three days that are over, and one in which windows come; late trades come to any of them, ten at a time.

    :param log: where the jobs' output goes
    :ivar visible: late trades that every reader of the view has to see from now on
    """

    def __init__(self, stack, folder, resources, log, seed):
        self.bench = Workbench(stack, folder, "at_once", resources, None, stack.settings.warehouse)
        self.name = self.bench.create_trades()
        self.view = f"{self.name}_all"
        self.random = Random(seed)  # noqa: S311 - repeatable on purpose
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.midnight = today - DAY  # of the day in which windows come: the view's clock is ClickHouse's
        self.end = self.midnight + timedelta(hours=23)
        self.resources, self.log = resources, log
        self.ended = threading.Event()
        self.done = Counter()
        self.visible: frozenset[int] = frozenset()
        self.windows = 0
        self.boundaries = set()

    def set_up(self):
        """The old days are cold and sealed, and the view shows them."""
        first = self.midnight - OLD_DAYS * DAY
        self.bench.insert_trades(self.name, first, OLD_ROWS, step_micros=OLD_DAYS * 86_400_000_000 // OLD_ROWS)
        jobs = self._jobs()
        self.publish_next(jobs)
        while self.publish_what_is_there(jobs, self.midnight + timedelta(hours=1)):
            pass
        self._heal_and_seal(jobs, self._cycle(self.end))
        assert self.boundaries == {self.midnight}
        stays = f"sequence < {OLD_ROWS}"
        day = self.midnight - 2 * DAY
        self.questions = [
            (question.format(self.view, stays, day), zone, self._ask(question.format(self.name, stays, day), zone))
            for zone in ZONES
            for question in QUESTIONS
        ]
        assert all(answer for _, _, answer in self.questions)

    def publish_windows(self):
        jobs = self._jobs()
        while not self.ended.is_set():
            self.publish_next(jobs)

    def publish_next(self, jobs):
        """One window, whole."""
        first = self.midnight + timedelta(hours=1, minutes=self.windows)
        start = FIRST_IN_WINDOW + self.windows * WINDOW_ROWS
        self.bench.insert_trades(self.name, first, WINDOW_ROWS, step_micros=1000, start_sequence=start)
        self.windows += 1
        self.publish_what_is_there(jobs, first + timedelta(minutes=40))

    def publish_what_is_there(self, jobs, now):
        """Whether anything was new."""
        with ExitStack() as resources:
            cycle = self._cycle(now, resources)
            planned = cycle.plan(cycle.tables[self.name])
            if planned is None:
                return False
            while not jobs.run(Plan("at_once", (planned,)).to_json()):
                self.done["windows again"] += 1
            cycle.commit(cycle.tables[self.name])
        self.done["windows"] += 1
        return True

    def heal(self, rounds):
        """Late trades come, are healed, their day is sealed anew, and the view is renewed; so often."""
        jobs, cycle = self._jobs(), self._cycle(self.end)
        try:
            for number in range(rounds):
                sequence = FIRST_LATE + number * LATE_ROWS
                late = self.midnight + self.random.choice([timedelta(minutes=40), -DAY / 3, -3 * DAY / 2])
                self.bench.insert_trades(self.name, late, LATE_ROWS, start_sequence=sequence)
                self._heal_and_seal(jobs, cycle)
                self.visible |= set(range(sequence, sequence + LATE_ROWS))
                self.done["heals"] += 1
        finally:
            self.ended.set()

    def _heal_and_seal(self, jobs, cycle):
        """As one run of `k2_reconcile` does, until there is nothing left to heal."""
        table = cycle.tables[self.name]
        while heals := [("at_once", heal) for found in reconcile(cycle.tiers, [table]) for heal in found.heals]:
            [plan] = group_plans(heals)
            jobs.run(plan.to_json())
            self.done["heals tried"] += 1
        assert seal_days(cycle.tiers, [table]).problems == []
        assert renew_views(cycle.tiers, [table]) == []
        self.boundaries.add(self._boundary())

    def maintain(self):
        """As `k2_maintenance` does, again and again, with everything that is some seconds old long enough."""
        jobs, cycle = self._jobs(), self._cycle(self.end)
        folder = self.bench.stack.settings.warehouse / "cold" / self.name
        while not self.ended.is_set():
            now = time.time()
            for file in [each for each in folder.rglob("*") if each.is_file()]:
                with suppress(FileNotFoundError):  # old metadata goes with each commit
                    if now - file.stat().st_mtime > SECONDS_IN_FLIGHT:
                        os.utime(file, (now - 5 * 86400,) * 2)
            plan, _ = plan_all(cycle.tiers, [cycle.tables[self.name]], dry_run=False)
            before = datetime.now(UTC)
            limits = {
                "closed_before": before + DAY,
                "expire_before": before - timedelta(seconds=SECONDS_IN_FLIGHT),
                "orphans_before": before - 2 * DAY,
            }
            jobs.maintain(replace(plan, tables=tuple(replace(each, **limits) for each in plan.tables)).to_json(), [])
            self.done["maintenance"] += 1

    def read_cold(self):
        """Every window and every heal is there as a whole or not at all, and stays."""
        seen: set[int] = set()
        while not self.ended.is_set():
            try:
                cold = load_cold_table(self.name).scan(selected_fields=("sequence",)).to_arrow()
            except FileNotFoundError:  # of a snapshot that has expired since it was looked up
                self.done["reads again"] += 1
                continue
            seen = self._check_whole(cold["sequence"].to_pylist(), seen)
            self.done["reads"] += 1

    def read_view(self):
        """The view has every row that has to be there, none twice, and answers to questions on old days as ever."""
        seen: set[int] = set()
        while not self.ended.is_set():
            visible, windows = self.visible, self.windows - 1  # the last of them may be on its way
            sequences = [sequence for (sequence,) in self._ask(f"SELECT sequence FROM {self.view}")]
            on_time = {sequence for sequence in seen if sequence < FIRST_LATE}  # late ones wait for the next renewal
            seen = self._check_whole(sequences, on_time | visible)
            rows = Counter(sequence // FIRST_IN_WINDOW for sequence in seen)
            assert rows[0] == OLD_ROWS
            assert rows[1] >= windows * WINDOW_ROWS, f"{rows[1]} rows of {windows} windows"
            for question, zone, answer in self.questions:
                assert self._ask(question, zone) == answer, (zone, question)
            self.done["reads of the view"] += 1

    def _check_whole(self, sequences, seen):
        counted = Counter(sequences)
        assert max(counted.values()) == 1, "a row is there twice"
        late = Counter(each // LATE_ROWS for each in counted if each >= FIRST_LATE)
        windows = Counter(each // WINDOW_ROWS for each in counted if FIRST_IN_WINDOW <= each < FIRST_LATE)
        assert set(late.values()) <= {LATE_ROWS}, f"half of a heal: {late}"
        assert set(windows.values()) <= {WINDOW_ROWS}, f"half of a window: {windows}"
        assert seen <= set(counted), f"{len(seen - set(counted))} rows are gone"
        return set(counted)

    def _ask(self, sql, zone="UTC"):
        with self.bench.stack.clickhouse_client(settings={"session_timezone": zone}) as client:
            try:
                return client.execute(sql)
            except ServerException as error:
                raise AssertionError(f"{sql} in {zone}: {error}") from error

    def _boundary(self):
        comment = f"SELECT JSONExtractString(comment, 'boundary') FROM system.tables WHERE name = '{self.view}'"
        return datetime.fromisoformat(self._ask(comment)[0][0])

    def _jobs(self):
        jobs = Jobs(self.log)
        self.resources.callback(jobs.close)
        return jobs

    def _cycle(self, now, resources=None):
        return self.bench.cycle(self.bench.spec(self.name, view=f"k2.{self.view}"), now=now, resources=resources)
