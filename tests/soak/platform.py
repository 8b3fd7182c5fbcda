"""Nine tables in both tiers, what arrives, and what the DAGs do: for soaks, which decide when, and what goes wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from embedded.feed.sink import Sink, Target
from k2_offload.core.exactly_once import watermark_of
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.plan import Plan, group_plans
from k2_offload.core.tables import LAYERS
from k2_offload.work.maintenance import plan_all
from k2_offload.work.reconcile import reconcile
from tests.faults.hook import MAINTENANCE_POINTS, Fault, Kind, kinds_at
from tests.soak.damage import LedgerDamage
from tests.soak.jobs import Jobs
from tests.soak.market import Market
from tests.soak.warm_tier import SOURCES
from tests.support import build_cycle
from tests.support.cold import cold_catalog

DAY = timedelta(days=1)
TABLES = (Path(__file__).parents[2] / "include" / "tables.yaml").read_text()
assert "warm_retention_days: 7" in TABLES
HEAL_POINTS = (
    FaultPoint.HEAL_STARTED,
    FaultPoint.FILE_EXPORTED,
    FaultPoint.STAGED,
    FaultPoint.HEAL_AUDITED,
    FaultPoint.SWAP_STAGED,
    FaultPoint.HEALED,
)


class Platform:
    """What runs of ``k2_offload_*``, ``k2_reconcile`` and ``k2_maintenance`` do, with a clock that is played.

    :param random: decides on all that happens
    :param start: when the first trades arrive
    :param file: the table file, as :class:`tests.soak.people.TableFile`
    :param log: where the jobs' output goes
    :param market: for :class:`tests.soak.market.Market`
    :ivar now: the time on all clocks
    :ivar events: what happened, counted
    :ivar problems: what the last comparison found that a person has to look at
    """

    def __init__(self, stack, random, start, file, resources, log, **market):
        self.random, self.file, self.log = random, file, log
        self.client = resources.enter_context(stack.clickhouse_client())
        for source in SOURCES:
            self.client.execute(f"ALTER TABLE {source} REMOVE TTL")
        self.target = Target("127.0.0.1", stack.settings.ports.clickhouse_native, "default", "k2")
        self.market = Market(resources.enter_context(Sink(self.target)), random, start, **market)
        self.now = start
        self.cycle = build_cycle(resources, lambda: self.now, file.text, "soak")
        self.catalog = resources.enter_context(cold_catalog())
        self.cycle.ledger.migrate()
        self.jobs = Jobs(log)
        resources.callback(self.jobs.close)
        self.damage = LedgerDamage(random, list(self.cycle.tables.by_name), stack.ledger_dsn)
        self.events = Counter()
        self.problems = []

    @property
    def tables(self):
        return list(self.cycle.tables.by_name.values())

    def move_layers(self, fault_rate=0.0):
        """Whether anything was moved."""
        moved = [self._run_layer(layer, fault_rate) for layer in LAYERS]
        return any(moved)

    def _run_layer(self, layer, fault_rate):  # noqa: ARG002
        tables = self.cycle.tables.in_layer(layer)
        planned = [entry for table in tables if (entry := self.cycle.plan(table)) is not None]
        if planned:
            text = Plan("soak", tuple(planned)).to_json()
            assert self.jobs.run(text) or self.jobs.run(text), "the job failed twice without a fault: see its log"
        for table in tables:
            self.cycle.commit(table)
        return bool(planned)

    def heal(self, fault_rate=0.0):
        """As `k2_reconcile` does; returns whether any day was to be healed."""
        heals, self.problems = [], []
        for found in reconcile(self.cycle.tiers, self.tables):
            assert not [problem for problem in found.problems if "unexpected" in problem], found.problems
            heals += [("soak", heal) for heal in found.heals]
            self.problems += found.problems
        self.publish_heals(heals, fault_rate)
        return bool(heals)

    def publish_heals(self, heals, fault_rate=0.0):
        """:param heals: with the group of each"""
        for plan in group_plans(heals):
            faults = []
            if self.random.random() < fault_rate:
                point = self.random.choice(HEAL_POINTS)
                kinds = [*kinds_at(point), Kind.WAIT]
                faults = [Fault(point, self.random.choice(kinds), self.random.choice(plan.heals).table)]
            copies = 2 if faults and self.random.random() < 0.3 else 1
            self.jobs.run(plan.to_json(), faults, copies)
            self.events["days to heal"] += len(plan.heals)

    def maintain(self, fault_rate=0.0):
        """As `k2_maintenance` does, with everything expired that may; its retries come until it is done."""
        before = {name: self._files(name) for name in self.cycle.tables.by_name}
        plan, _ = plan_all(self.cycle.tiers, self.tables, dry_run=False)
        now = datetime.now(UTC)
        tables = [
            replace(each, expire_before=now - timedelta(minutes=1), orphans_before=now - DAY * 2)
            for each in plan.tables
        ]
        faults = []
        if self.random.random() < fault_rate:
            point = self.random.choice(MAINTENANCE_POINTS)
            faults = [
                Fault(point, self.random.choice([*kinds_at(point), Kind.INTERFERE]), self.random.choice(tables).table)
            ]
        text = replace(plan, tables=tuple(tables)).to_json()
        if not self.jobs.maintain(text, faults):
            assert self.jobs.maintain(text, []), "maintenance failed without a fault: see its log"
        after = {name: self._files(name) for name in self.cycle.tables.by_name}
        self.events["maintenance"] += 1
        self.events["files saved by maintenance"] += sum(before.values()) - sum(after.values())

    def _files(self, name):
        snapshot = self.catalog.load_table(self.cycle.tables[name].target).current_snapshot()
        return int(snapshot.summary["total-data-files"]) if snapshot else 0

    def check_layers(self):
        """No layer is ahead of the one below."""
        watermarks = {name: self.watermark(name) for name in self.cycle.tables.by_name}
        for spec in self.tables:
            for name in spec.upstream:
                assert watermarks[spec.name] <= watermarks[name], f"{spec.name} is ahead of {name}"

    def watermark(self, name):
        """Up to when a table has moved, as its cold table says."""
        cold = self.cycle.catalog.load(self.cycle.tables[name])
        return watermark_of(cold.published if cold else None)
