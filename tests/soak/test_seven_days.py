"""Seven days of nine tables through the real plan, job and commit, with an accelerated clock and random faults.

Every cycle of 15 minutes moves bronze, silver and gold; once in four days nothing runs for longer than ClickHouse keeps
rows. Some trades come hours late and are healed, with the candles that they change; once a day the cold tables are
tidied. Days that are over are sealed, and most tables forget only what is proven. Before a day leaves ClickHouse, and
at the end, all rows of both tiers are compared. K2_SOAK_CYCLES, K2_SOAK_SEED and K2_SOAK_RATE change the length, the
course and the volume; after K2_SOAK_MINUTES no cycle begins.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.errors import ChangedTable, ExpiredRows, InvalidSource
from k2_offload.core.exactly_once import WindowId
from k2_offload.core.gaps import GapKind
from k2_offload.core.plan import Plan
from k2_offload.work.accept import accept_missed, find_missed
from k2_offload.work.status import read_status
from tests.faults.hook import (
    COMMIT_POINTS,
    JOB_POINTS,
    PLAN_POINTS,
    Fault,
    Kind,
    faults_at,
    kinds_at,
)
from tests.faults.tasks import run_task
from tests.soak.comparison import Difference, compare_days
from tests.soak.people import PROVEN_ENTRY, Columns, TableFile
from tests.soak.platform import DAY, TABLES, Platform
from tests.soak.proofs import Proofs
from tests.soak.warm_tier import BRONZE, BY_CLOCK, TRADES, WarmTier, within

INTERVAL = timedelta(minutes=15)
PROVEN_DAYS = PROVEN_ENTRY["warm_retention_days"]
WARM_DAYS = 2  # so that days leave ClickHouse while it runs
FAULTS_PER_LAYER = 0.3
RETENTION = 2 * DAY  # what the table file says; ClickHouse keeps days longer, but not while nothing runs
LONGEST_RUN = 4 * 96
CYCLES_PER_DAY = 96
CYCLES_PER_HEAL = 4  # as often as k2_reconcile runs
CYCLES_PER_SEALING = 16


class Soak(Platform):
    """The platform of nine tables, and everything that goes wrong in a week."""

    def __init__(self, stack, seed, rate, start, resources, log):
        random = Random(seed)  # noqa: S311 - repeatable on purpose
        file = TableFile(random, TABLES.replace("warm_retention_days: 7", "warm_retention_days: 2"))
        super().__init__(stack, random, start, file, resources, log, rate=rate)
        self.columns = Columns(self.random, self.client, BRONZE)
        self.warm = WarmTier(self.random, self.client)
        self.gaps = defaultdict(list)
        self.proofs = Proofs(self.random, self.events)
        self.difference = Difference()
        self.cycles = 0
        self.sealed_days = {}
        self.compared_until = start.replace(hour=0, minute=0, second=0, microsecond=0)

    def run_cycle(self, faults=True):
        """One quarter of an hour: trades arrive, then every layer moves what is new."""
        self.market.deliver_until(self.now, self.now + INTERVAL)
        self.now += INTERVAL
        self.move_layers(FAULTS_PER_LAYER if faults else 0)
        if faults:
            self.mishaps()
        self.check_layers()
        self.cycles += 1
        if self.cycles % CYCLES_PER_HEAL == 0:
            self.heal(FAULTS_PER_LAYER if faults else 0)
        if self.cycles % CYCLES_PER_SEALING == 0:
            self.seal(FAULTS_PER_LAYER)
            if self.now - self.compared_until <= PROVEN_DAYS * DAY:
                self._remove_proven(2 * FAULTS_PER_LAYER)
        if self.cycles % CYCLES_PER_DAY == 0:
            self.maintain(FAULTS_PER_LAYER)

    def seal(self, fault_rate):
        """As `k2_reconcile` does with days that are over."""
        problems = self.proofs.seal(self.cycle, self.file, fault_rate)
        assert not problems or self._is_refused, problems

    def _remove_proven(self, fault_rate):
        """As `k2_maintenance` does; all of it was compared before."""
        problems = self.proofs.remove(self.cycle, self.file, fault_rate)
        assert not problems or self._is_refused, problems

    @property
    def _is_refused(self):
        return bool(self.file.refused or self.columns.refused)

    def _run_layer(self, layer, fault_rate):
        names = [table.name for table in self.cycle.tables.in_layer(layer)]
        task = self.random.choice(["plan", "job", "job", "commit"]) if self.random.random() < fault_rate else None
        if task == "plan":
            self._fail("plan", PLAN_POINTS, names)
        planned = self._plan_all(names, fault_rate)
        if self.random.random() < fault_rate / 5:
            self._edit("while windows are open")
        if planned:
            self._move(planned, faulty=task == "job", eventful=task is None and self.random.random() < fault_rate / 4)
        if task == "commit":
            self._fail("commit", COMMIT_POINTS, names)
            if self.random.random() < 0.5:  # and its retries, too: the next plan has to make up for it
                return bool(planned)
        for name in names:
            self.cycle.commit(self.cycle.tables[name])
        return bool(planned)

    def _plan_all(self, names, fault_rate):
        lagging = [name for name in names if name in TRADES and self.random.random() < fault_rate / 10]
        with ExitStack() as replicas:
            for name in lagging:
                replicas.enter_context(self.warm.hidden(name, "exchange_timestamp >= '2000-01-01'"))
                self.events["plan: replica lags"] += 1
            return [entry for name in names if (entry := self._plan(self.cycle.tables[name])) is not None]

    def _plan(self, table):
        refused = table.name in (self.file.refused, self.columns.refused) or self.file.cut_anew in table.upstream
        try:
            planned = self.cycle.plan(table)
        except ExpiredRows:
            assert not refused
            self._accept(table)
            return self.cycle.plan(table)
        except (ChangedTable, InvalidSource) as error:
            if not refused:
                raise
            self.cycle.mark_failed(table, str(error))
            self.events["table refused"] += 1
            return None
        assert not refused, f"{table.name} should be refused"
        return planned

    def _accept(self, table):
        """As `k2 accept` does; returns what is on record by that."""
        tiers = self.cycle.tiers
        missed = find_missed(tiers, table)
        accept_missed(tiers, table, missed)
        on_record = tiers.ledger.read_gaps()[table.name]
        for each in missed:
            assert (each.gap.window, each.gap.kind, each.gap.rows) in [
                (gap.window, gap.kind, gap.rows) for gap in on_record
            ]
            self.gaps[table.name].append(each.gap)
            self.events[f"accepted: {each.gap.kind}"] += 1
        return [each.gap for each in missed]

    def _edit(self, when):
        """Somebody edits the table file: what may be edited at any time, or what is refused until it is put back."""
        if self.file.refused:
            self.file.put_back()
        elif self.random.random() < 0.3:
            self.events[f"{self.file.spoil()} edited {when}"] += 1
        else:
            self.events[f"{self.file.change()} edited {when}"] += 1
        tiers = replace(self.cycle.tiers, tables=parse_tables(self.file.text))
        self.cycle = replace(self.cycle, tiers=tiers)

    def _fail(self, task, points, names):
        point = self.random.choice(points)
        fault = Fault(point, self.random.choice(kinds_at(point)), self.random.choice(names))
        if run_task(task, fault, self.file.text, names, self.now) is not None:
            self.events[f"{task}: {fault.kind}"] += 1

    def _move(self, planned, faulty, eventful):
        trades = [entry for entry in planned if entry.table in TRADES]
        if eventful and trades and not self.jobs.has_zombies:
            planned = self._lose_sight(planned, self.random.choice(trades))
        plan = Plan("soak", tuple(planned)).to_json()
        if faulty:
            point = self.random.choice(JOB_POINTS)
            kind = self.random.choice([*kinds_at(point), Kind.WAIT])
            victims = faults_at(point, kind, self.random.choice(planned).table)
            if self.jobs.run(plan, victims, copies=self.random.choice([1, 1, 2])):
                return
            if self.random.random() < 0.2:  # the retries fail as well: the next cycle resumes
                self.events["run given up"] += 1
                return
        assert self.jobs.run(plan), "the job failed without a fault: see its log"

    def _lose_sight(self, planned, victim):
        """The job is shown fewer rows than were planned: by a replica that lags, or because they are gone."""
        window = WindowId.parse(victim.window_id).window
        if self.warm.count(victim.table, window) != victim.rows:
            return planned  # it was planned from a replica that lagged
        plan = Plan("soak", tuple(planned)).to_json()
        if self.random.random() < 0.5:
            with self.warm.hidden(victim.table, within("exchange_timestamp", window)) as rows:
                assert self.jobs.run(plan) == (rows == 0), "published without the rows that a replica did not show"
            self.events["job: replica lags"] += 1
            return planned
        rows = self.warm.delete_some(victim.table, window)
        assert not self.jobs.run(plan), "published without the rows that were deleted"
        gap = self._accept(self.cycle.tables[victim.table])[0]
        assert (gap.kind, gap.rows, gap.window) == (GapKind.FEWER_ROWS, rows, window)
        again = self._plan(self.cycle.tables[victim.table])
        return [again if entry is victim else entry for entry in planned]

    def mishaps(self):
        """What happens between cycles: zombies wake, ledgers are damaged, tables compacted, days expire."""
        if self.jobs.has_zombies and self.random.random() < 0.4:
            self.jobs.wake_zombies()
            self.events["zombies woken"] += 1
        if self.random.random() < 0.02:
            self.damage.back_up()
        if self.random.random() < 0.02:
            self.events[f"ledger: {self.damage.happen()}"] += 1
        if self.random.random() < 0.01:
            self._compact()
        if self.random.random() < 0.02:
            self._expire_snapshots()
        for kind in ("from the future", "before 2000"):
            if self.random.random() < 0.03:
                self.warm.add_strange_rows(kind)
        if self.random.random() < (0.5 if self.file.refused else 0.15):
            self._edit("between cycles")
        if self.columns.refused:
            self.columns.put_back()
        elif not self.file.refused and self.random.random() < 0.03:
            self.columns.spoil()
            self.events["column turns Nullable"] += 1
        if self.now - self.compared_until > (WARM_DAYS + 1) * DAY:
            self._let_a_day_expire()

    def outage(self):
        """Nothing runs for longer than ClickHouse keeps rows. It takes rows on both sides of the watermarks."""
        self.jobs.wake_zombies()
        self._heal_all()
        end = self.now + RETENTION + DAY / 4
        while self.now < end:
            self.market.deliver_until(self.now, self.now + INTERVAL, activity=0.03)
            self.now += INTERVAL
        self.warm.expire(self.cycle.tables.by_name.values(), self.watermark, self.now - RETENTION)
        self.events["outage longer than the retention"] += 1

    def _heal_all(self):
        """What comes late comes now, and is healed while ClickHouse holds its day: trades, and candles after them."""
        if self.file.refused:
            self._edit("before all is healed")
        if self.columns.refused:
            self.columns.put_back()
        self.market.deliver_late()
        for _ in range(5):
            if not self.heal():
                return
        raise AssertionError("days differ after five heals")

    def _compact(self):
        targets = [table.target for table in self.cycle.tables.by_name.values()]
        self.jobs.compact(targets)
        self.events["compaction of all tables"] += 1

    def _expire_snapshots(self):
        older_than = datetime.now(UTC) - timedelta(minutes=1)
        for spec in self.cycle.tables.by_name.values():
            table = self.catalog.load_table(spec.target)
            table.maintenance.expire_snapshots().older_than(older_than.replace(tzinfo=None)).commit()
        self.events["snapshots of all tables expired"] += 1

    def _let_a_day_expire(self):
        """As the TTL does, but not before the day was compared and all of it has moved."""
        end = self.compared_until + DAY
        if all(self.watermark(name) > end + DAY for name in self.cycle.tables.by_name):
            self.compare_until(end)
            for source in BY_CLOCK:
                self.client.execute(f"ALTER TABLE {source} DROP PARTITION '{end - DAY:%Y-%m-%d}'")
            self.events["day expired in ClickHouse"] += 1

    def compare_until(self, end):
        for name, spec in self.cycle.tables.by_name.items():
            gone, gaps = self.warm.expired[name], self.gaps[name]
            compare_days(self.client, spec, self.compared_until, end, gone, gaps, self.difference)
        self.compared_until = end

    def finish(self):
        """The feed has ended and everything is well again: move all there is, and compare all of it.

        The ledger then says what the cold tables hold, and nothing else refers to their snapshots.
        """
        self.jobs.wake_zombies()
        self._heal_all()
        self._live_through_quiet_days()
        self.now += 3 * DAY
        while self.move_layers():
            pass
        self.compare_until(self.now)
        self._forget_all()
        for name, record in self.cycle.ledger.read_tables().items():
            assert record.watermark == self.watermark(name), name
            assert record.state == "committed", name
            refs = self.catalog.load_table(self.cycle.tables[name].target).metadata.refs
            own = {ref for ref in refs if ref != "k2_healed" and not ref.startswith("k2_held_")}
            assert own == {"main", "k2_published"}, name
        assert self.difference.on_record == self.warm.never_moved
        for name in TRADES:
            status = read_status(self.cycle.tiers, self.cycle.tables[name], None, counts=True)
            outside = {"before 2000": status.before_first, "from the future": status.future}
            assert outside == {kind: self.warm.strange[kind][name] for kind in outside}, name

    def _live_through_quiet_days(self):
        """So that all days before are over, also for candles of a day, and are sealed while ClickHouse has them."""
        for _ in range(3):
            for _ in range(CYCLES_PER_DAY):
                self.market.deliver_until(self.now, self.now + INTERVAL, activity=0.03)
                self.now += INTERVAL
            while self.move_layers():
                pass
            self._heal_all()
            self.seal(0)

    def _forget_all(self):
        """What is proven goes, and every seal holds after it."""
        assert not self.heal()
        self.seal(0)
        for _ in range(3):
            self._remove_proven(0)
            self.now += DAY
        self.sealed_days = self.proofs.verify(self.cycle)


def test_no_row_is_lost_and_none_doubled_in_seven_days(stack, tmp_path):
    cycles = int(os.environ.get("K2_SOAK_CYCLES", "672"))
    seed = int(os.environ.get("K2_SOAK_SEED") or secrets.randbelow(2**32))
    rate = float(os.environ.get("K2_SOAK_RATE", "4"))
    minutes = float(os.environ.get("K2_SOAK_MINUTES") or "inf")
    logging.getLogger("k2_offload").setLevel(logging.ERROR)
    screen = Console()
    screen.print(f"\nseed {seed}, {cycles} cycles; K2_SOAK_SEED={seed} repeats it. Log: {tmp_path / 'jobs.log'}")
    start = (datetime.now(UTC) - timedelta(days=24)).replace(hour=0, minute=0, second=0, microsecond=0)
    started = time.monotonic()
    with ExitStack() as resources:
        log = resources.enter_context((tmp_path / "jobs.log").open("w"))
        soak = Soak(stack, seed, rate, start, resources, log)
        with _progress(screen) as progress:
            shown = progress.add_task("", total=cycles)
            outages = {
                soak.random.randrange(first, min(first + LONGEST_RUN, cycles))
                for first in range(0, cycles, LONGEST_RUN)
            }
            for number in range(cycles):
                if time.monotonic() - started > minutes * 60:
                    break
                if number in outages:
                    soak.outage()
                soak.run_cycle()
                faults = soak.events.total() + soak.jobs.faults.total()
                progress.update(shown, advance=1, description=f"{soak.market.trades:,} trades, {faults} faults")
        cycles = soak.cycles
        soak.finish()
    difference = soak.difference
    result = {
        "seed": seed,
        "cycles": cycles,
        "trades": soak.market.trades,
        "late_trades": soak.market.late,
        "rows_compared": difference.rows,
        "lost": difference.lost,
        "doubled": difference.doubled,
        "foreign": difference.foreign,
        "expired_before_they_were_moved_and_on_record": difference.on_record.total(),
        "deleted_after_planning_and_on_record": sum(
            gap.rows for gaps in soak.gaps.values() for gap in gaps if gap.kind is GapKind.FEWER_ROWS
        ),
        "sealed_days_that_hold_at_the_end": sum(soak.sealed_days.values()),
        "partitions_of_proven_tables_that_wait_at_the_end": soak.proofs.waiting,
        "outside_of_all_windows": {kind: rows["silver_trades"] for kind, rows in soak.warm.strange.items()},
        "minutes": round((time.monotonic() - started) / 60, 1),
        "stalls": dict(soak.market.stalls),
        "faults": dict(sorted((soak.events + Counter({f"job: {k}": n for k, n in soak.jobs.faults.items()})).items())),
    }
    screen.print_json(json.dumps(result))
    result_file = Path(os.environ.get("K2_SOAK_RESULT", tmp_path / "result.json"))
    result_file.write_text(json.dumps(result, indent=2))
    assert difference.rows > 2 * soak.market.trades
    assert (difference.lost, difference.doubled, difference.foreign) == (0, 0, 0)
    proven = [name for name, table in soak.cycle.tables.by_name.items() if table.is_proven]
    assert min(soak.sealed_days[name] for name in proven) >= cycles // CYCLES_PER_DAY
    assert soak.events["partition: dropped"] >= cycles // CYCLES_PER_DAY


def _progress(screen):
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("{task.description}"), console=screen)
