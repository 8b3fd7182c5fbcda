"""A month of nine tables that forget only what is proven, and what gets in the way of it."""

from __future__ import annotations

import os
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta

import psycopg

from embedded.stack import status, up
from embedded.stack.processes import wait_until
from k2_offload.core import fault_points
from k2_offload.core.errors import ExpiredRows, OffloadError
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.holding import merge_days
from k2_offload.work.holding import HoldingTable
from k2_offload.work.reconcile import reconcile
from k2_offload.work.retention import restore_day
from k2_offload.work.verify_seals import verify_due
from tests.faults.hook import REMOVAL_POINTS
from tests.soak.people import TableFile
from tests.soak.platform import DAY, TABLES, Platform
from tests.soak.proofs import Proofs
from tests.soak.stragglers import Stragglers
from tests.soak.truth import Outcome, Truth
from tests.soak.warm_tier import PROVEN, TRADES

STORAGES = {**{name: [name] for name in TRADES}, "candles": PROVEN["candles"]}
"""All tables, by the source that holds their rows."""
ENTRY = {"retention": "proven", "warm_retention_days": 7, "holding_days": 2}
MOMENTS = (*REMOVAL_POINTS, FaultPoint.RETURN_RECORDED, FaultPoint.RETURNED)
"""At each of them trades come into the very partition."""
CORRECTED_AT = (FaultPoint.REMOVAL_RECORDED, FaultPoint.REMOVAL_TAGGED, FaultPoint.REMOVAL_MOVED)
RUNS_PER_DAY = (1, 1, 2)
LATEST = timedelta(days=4)
OUTAGE_DAYS = (8, 9, 10)  # more than ClickHouse is said to keep
OFTEN = 2
"""Until so many trades have come at a moment, they come at it more often."""


class Month(Platform):
    """Runs, once or twice a day, and everything that happens between and within them.

    :ivar served: how often trades came at a moment, into the partition that was moved, held or dropped then
    :ivar checked: what became of the rows of partitions that runs were at, looked at after each run
    :ivar compared: what became of all rows, at the end
    """

    def __init__(self, stack, random, rate, start, resources, log):
        file = TableFile(random, TABLES, STORAGES, ENTRY)
        super().__init__(stack, random, start, file, resources, log, rate=rate, latest=LATEST)
        self.stack = stack
        self.truth = Truth(self.client)
        self.stragglers = Stragglers(random, self.target)
        resources.callback(self.stragglers.close)
        self.proofs = Proofs(random, self.events, STORAGES, MOMENTS)
        self.served = Counter()
        self.checked, self.compared = Outcome(), Outcome()
        self.looks = 0
        self._start = start
        self._to_kill, self._is_gone = None, False
        self._touched = {}
        self._concerned, self._expected, self._guessed = {}, {}, {}
        self._corrections = []

    # What arrives, and the runs of a day

    def live_through_a_day(self):
        """As the DAGs do, with what happens between them; every row is looked for at the end of it."""
        runs = self.random.choice(RUNS_PER_DAY)
        for _ in range(runs):
            self._let_time_pass(DAY / runs)
            self.move_layers()
        self.heal()
        if self.problems:  # yesterday's heals were not compared again, so a day that differs anew is overdue
            self.heal_all()
        self.seal()
        self._happen()
        self.remove(happenings=True)
        if self.random.random() < 0.1:
            self.maintain()
            assert verify_due(self.cycle.tiers, self.tables) == []

    def _let_time_pass(self, length, activity=None):
        self.market.deliver_until(self.now, self.now + length, activity)
        self.now += length

    def outage(self, days):
        """The offload does not run for longer than rows are kept; then it catches up."""
        for _ in range(days):
            self._let_time_pass(DAY, self.random.choice([0.1, 0.3]))
        self.events["outage longer than the retention"] += 1

    def heal_all(self):
        """Late trades, and the candles that they change."""
        for _ in range(6):
            if not self.heal():
                assert not self.problems, self.problems
                return
        raise AssertionError("days differ after six heals")

    def seal(self):
        """As `k2_reconcile` does with days that are over."""
        problems = self.proofs.seal(self.cycle, self.file, 0.1, verified=False)
        assert not problems, problems

    def _happen(self):
        """What people and machines do to what is held, and to the ledger."""
        if self.random.random() < 0.2:
            self._restore_some()
        if self.random.random() < 0.1:
            self.damage.back_up()
        if self.random.random() < 0.1:
            self.events[f"ledger: {self.damage.happen()}"] += 1

    def _restore_some(self):
        """A person wants days back, and some trades of them come after all."""
        for storage in STORAGES:
            if (records := self._holding(storage)) and self.random.random() < 0.5:
                self._restore(storage, self.random.choice(records))

    def _restore(self, storage, record):
        table = self.cycle.tables[STORAGES[storage][0]]
        restore_day(self.cycle.tiers, table, record.days[table.partition_column][0])
        self.events["held day restored"] += 1
        if self.random.random() < 0.5:
            self.stragglers.send(_day(record), storage)
            self.stragglers.wait()

    # Removing, and what happens meanwhile

    def remove(self, *, happenings=False):
        """As `k2_maintenance` does; afterwards every row of each day that it has touched is where it should be."""
        self._touched = {name: {_day(each) for each in self._holding(name)} for name in STORAGES}
        if happenings:
            for _ in range(self.random.choice([0, 0, 0, 2])):  # while another process removes, and may be killed
                day = (self.now - self.random.uniform(7, 10) * DAY).date()
                self.stragglers.send(max(day, self._start.date()), delay_seconds=self.random.uniform(0, 2))
            if self.random.random() < 0.15:
                self._to_kill = self.random.choice(["clickhouse", "postgres"]), self.random.choice(MOMENTS)
            fault_points.arm(self._at)
        try:
            problems = self.proofs.remove(self.cycle, self.file, 0.3 if happenings else 0)
        except OffloadError:
            if not self._is_gone:
                raise
            problems = []
        finally:
            fault_points.arm(None)
            self._to_kill = None
        self.stragglers.wait()
        if self._is_gone:
            up(self.stack.settings, airflow=False)
            self._is_gone = False
            self.catalog.engine.dispose()  # this test's own connections have gone with the server
        for problem in problems:
            assert "a mutation was given while it was moved" in problem, problem
        self._give_again()
        self.check()

    def _at(self, point, where):
        storage = where.removeprefix("k2.")
        if storage not in STORAGES or point not in MOMENTS:
            return
        day = self._day_at(point, storage)
        if day is None:
            return
        if point is FaultPoint.REMOVAL_RECORDED and self._guessed.pop(storage, None) == day:
            self.served[FaultPoint.REMOVAL_PROVEN] += 1
        self._touched[storage].add(day)
        if self.random.random() < (0.4 if self.served[point] < OFTEN else 0.06):
            self._insert_at(point, storage, day)
        if storage in TRADES and point in CORRECTED_AT and self.random.random() < 0.03:
            self._correct(storage, day)
        if self._to_kill is not None and self._to_kill[1] is point:
            self.stragglers.wait()
            self._kill(self._to_kill[0])

    def _day_at(self, point, storage):
        """Which day's partition a run is at; before that is on record, it is the oldest one that may go, as a rule."""
        if point is FaultPoint.REMOVAL_PROVEN:
            self._expected[storage] = self._oldest_that_may_go(storage)
            return self._expected[storage]
        if point is not FaultPoint.REMOVAL_ENDED and (records := self._holding(storage)):
            self._concerned[storage] = _day(records[-1])
        return self._concerned.get(storage)

    def _oldest_that_may_go(self, storage):
        table = self.cycle.tables[STORAGES[storage][0]]
        column = table.partition_column
        holding = HoldingTable(self.cycle.tiers, f"k2.{storage}").read()
        days = self.client.execute(
            f"SELECT DISTINCT toDate({column}) AS day FROM {storage} WHERE {column} < %(end)s ORDER BY day",
            {"end": self.now - ENTRY["warm_retention_days"] * DAY},
        )
        return next((day for (day,) in days if not holding.kept(column).is_gone(day)), None)

    def _insert_at(self, point, storage, day):
        self.stragglers.send(day, storage)
        if self.random.random() < 0.7:  # otherwise the run goes on beside it
            self.stragglers.wait()
        if point is FaultPoint.REMOVAL_PROVEN:
            self._guessed[storage] = day
        else:
            self.served[point] += 1

    def _kill(self, service):
        self._to_kill, self._is_gone = None, True
        self.events[f"{service} gone while partitions are moved"] += 1
        os.kill(self._pid(service), signal.SIGKILL if service == "clickhouse" else signal.SIGINT)
        assert wait_until(lambda: self._pid(service) is None, 30)

    def _pid(self, service):
        return next(each.pid for each in status(self.stack.settings, airflow=False) if each.name == service)

    # What people change

    def _correct(self, storage, day):
        """Somebody corrects a trade by ALTER … UPDATE, which ClickHouse does not apply to what is moved away."""
        rows = self.client.execute(
            f"SELECT exchange_timestamp, symbol, sequence_number, trade_id FROM truth.{storage} "
            "WHERE toDate(exchange_timestamp) = %(day)s ORDER BY ALL",
            {"day": day},
        )
        time, symbol, sequence, trade = self.random.choice(rows)
        number = self.events["row corrected by ALTER UPDATE"] = self.events["row corrected by ALTER UPDATE"] + 1
        correction = (
            f"ALTER TABLE {{0}} UPDATE trade_id = 'corrected-{number}' WHERE symbol = '{symbol}' AND "
            f"exchange_timestamp = toDateTime64('{time:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC') AND "
            f"sequence_number = {sequence} AND trade_id = '{trade}' SETTINGS mutations_sync = 2"
        )
        self.client.execute(correction.format(f"k2.{storage}"))
        self._corrections.append((storage, day, correction))

    def _give_again(self):
        """To rows that are there now, as the message says; then the day is replaced by what is right."""
        for storage, day, correction in self._corrections:
            for record in self._holding(storage):
                if _day(record) == day:
                    self._restore(storage, record)
            for name in (f"k2.{storage}", f"truth.{storage}"):
                self.client.execute(correction.format(name))
            found = list(reconcile(self.cycle.tiers, [self.cycle.tables[storage]], [day], going_rows=10))
            self.publish_heals([("soak", heal) for each in found for heal in each.heals])
        self._corrections = []

    def lose_ledger(self):
        """All of it; the next run makes a new one."""
        with psycopg.connect(self.stack.ledger_dsn) as connection:
            connection.execute("DROP SCHEMA k2_offload CASCADE")
        self.cycle.ledger.migrate()
        self.events["ledger lost"] += 1

    def catch_up_and_roll_back(self, name):
        """A cold table goes back to before an outage. What it has lost by that is held, and comes back.

        Nothing of it is dropped until the cold table has it again.
        """
        before = self.catalog.load_table(self.cycle.tables[name].target).current_snapshot().snapshot_id
        while self.move_layers():
            pass
        self.heal_all()
        self.seal()
        self.remove()
        held = self._holding(name)
        assert held, "nothing is held after an outage that is longer than the retention"
        table = self.cycle.tables[name]
        self.catalog.load_table(table.target).manage_snapshots().rollback_to_snapshot(before).commit()
        self.now += ENTRY["holding_days"] * DAY
        lacking = [record for record in held if self._is_not_cold(table, _day(record))]
        assert lacking, "the cold table lacks nothing that is held"
        problems = self.proofs.remove(self.cycle, self.file, 0)
        for record in lacking:
            assert record in self._holding(name), "dropped"
            assert any(f"{name} {_day(record)}: it is held" in problem for problem in problems), problems
        self.check()
        try:
            self.cycle.plan(table)
            raise AssertionError("it is not known that days are gone that the cold table has not")
        except ExpiredRows:
            pass
        for record in self._holding(name):
            restore_day(self.cycle.tiers, table, _day(record))
        while self.move_layers():
            pass
        self.heal()
        assert verify_due(self.cycle.tiers, [table]) == []
        self.seal()
        self.remove()
        assert {_day(record) for record in lacking} <= {_day(record) for record in self._holding(name)}, "they go again"
        self.events["cold table rolled back"] += 1

    def _is_not_cold(self, table, day):
        return self.truth.compare(table, _midnight(day), _midnight(day) + DAY).not_cold > 0

    # Where all rows are

    def check(self):
        """Every row of each partition that a run was at is in one tier, or in both as long as it was not dropped."""
        for storage, touched in self._touched.items():
            days = touched | {_day(each) for each in self._holding(storage)}
            for first, last in merge_days((day, day) for day in days):
                for name in STORAGES[storage]:
                    table = self.cycle.tables[name]
                    self.checked.add(self.truth.compare(table, _midnight(first), _midnight(last) + DAY))
        assert not self.checked.examples, self.checked
        self.looks += 1

    def finish(self):
        """The feed ends, everything goes that is proven, and all rows are looked for."""
        self.market.deliver_late()
        for _ in range(2):
            self._let_time_pass(DAY, activity=0.1)
            while self.move_layers():
                pass
            self.heal()
            self.remove()
        self.now += (ENTRY["warm_retention_days"] + 2) * DAY
        while self.move_layers():
            pass
        self.heal_all()
        self.seal()
        for _ in range(ENTRY["holding_days"] + 2):
            self.remove()
            self.now += DAY
        for table in self.tables:
            self.compared.add(self.truth.compare(table, self._start, self.now))
        return self.proofs.verify(self.cycle)

    def _holding(self, storage):
        holding = HoldingTable(self.cycle.tiers, f"k2.{storage}").read()
        return holding.records if holding is not None else ()


def _day(record):
    """The storages of this platform have one day in a partition."""
    [(first, last)] = set(record.days.values())
    assert first == last
    return first


def _midnight(day):
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
