"""The machine: hypothesis decides what happens next, and the world must stay right."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from k2_offload.core.tables import LAYERS
from tests.model.actors import Fate
from tests.model.world import EXCHANGES, LONG, SHORT, TABLES, World

_RUNS_PER_LAYER = 4
_log = logging.getLogger("k2_offload.work.cycle")

layers = st.sampled_from(LAYERS)
names = st.sampled_from(list(TABLES.by_name))
exchanges = st.sampled_from(EXCHANGES)
clock_errors = st.sampled_from([0, 0, 60, -20, -300]).map(lambda minutes: timedelta(minutes=minutes))
turns = st.integers(0, 99)
"""Which of the runs under way; taken modulo their number."""
stops = st.sampled_from(
    [
        *("export", "read footer", "remove file", "stage", "refresh", "drop", "fast-forward", "swap", "adopt"),
        *("ledger lock_table", "ledger commit", "load table", "query"),
    ]
)


class Offload(RuleBasedStateMachine):
    make_world = World

    def __init__(self):
        super().__init__()
        _log.disabled = True
        self.world = self.make_world()
        self.backup = self.world.postgres.copy()
        self.zombies_wake = True

    @initialize(
        whole=st.booleans(),
        zombies_wake=st.booleans(),
        retention=st.sampled_from([SHORT, LONG]),
        at_the_front=st.sampled_from([False, False, True]),
    )
    def choose(self, whole, zombies_wake, retention, at_the_front):
        self.world.lakehouse.whole = whole
        if at_the_front:
            self.world.begin_at_the_front()
        self.world.keep_for(retention)
        self.zombies_wake = zombies_wake

    # Trades and time.

    @rule(exchange=exchanges, ages=st.lists(st.integers(0, 300), min_size=1, max_size=4))
    def trades_come_in(self, exchange, ages):
        for age in ages:
            self.world.trade(exchange, self.world.now - timedelta(seconds=age))

    @rule(seconds=st.integers(1, 600))
    def time_passes(self, seconds):
        self.world.now += timedelta(seconds=seconds)

    @rule(minutes=st.sampled_from([5, 6, 15, 20, 40]), exchange=exchanges | st.none())
    def exchanges_stall(self, minutes, exchange):
        """One of them, if any, goes on all the same."""
        for _ in range(minutes):
            self.world.now += timedelta(minutes=1)
            if exchange is not None and self.world.now.minute % 5 == 0:
                self.world.trade(exchange, self.world.now)

    @precondition(lambda self: self.world.newest)
    @rule(
        exchange=exchanges,
        seconds_before=st.integers(0, 10) | st.none(),
        parts=st.lists(st.integers(1, 100), min_size=1, max_size=4),
    )
    def a_backlog_comes_in(self, exchange, seconds_before, parts):
        self.deliver_backlog(exchange, seconds_before, parts)

    def deliver_backlog(self, exchange, seconds_before, parts):
        """Its first trade may be slightly older than the last one before the stall."""
        newest = self.world.newest.get(exchange)
        if newest is not None and newest < self.world.now:
            if seconds_before is not None:
                self.world.trade(exchange, newest - timedelta(seconds=seconds_before))
            for part in sorted(parts):
                self.world.trade(exchange, newest + (self.world.now - newest) * part / 100)

    @rule(
        exchange=exchanges,
        minutes=st.integers(1, 40),
        seconds_before=st.integers(0, 10),
        parts=st.lists(st.integers(1, 100), max_size=4),
    )
    def an_exchange_stalls_while_runs_go_through_and_comes_back(self, exchange, minutes, seconds_before, parts):
        [other] = set(EXCHANGES) - {exchange}
        self.world.trade(exchange, self.world.now)
        for _ in range(minutes):
            self.world.now += timedelta(minutes=1)
            self.world.trade(other, self.world.now)
        for layer in LAYERS:
            self.begin(layer, timedelta(0)).proceed()
        self.deliver_backlog(exchange, seconds_before, parts)

    @precondition(lambda self: self.world.newest)
    @rule(exchange=exchanges, minutes=st.integers(0, 90))
    def a_late_trade_comes_in(self, exchange, minutes):
        self.world.trade(exchange, min(self.world.newest.values()) - timedelta(minutes=minutes))

    @rule(exchange=exchanges)
    def a_trade_from_the_future_comes_in(self, exchange):
        """So far ahead that its time never comes here; once it has come, it is the newest like any other."""
        self.world.trade(exchange, self.world.now + timedelta(days=365))

    @rule()
    def the_ttl_takes_old_rows(self):
        self.world.expire_warm_rows()

    @rule(hours=st.integers(2, 5))
    def nothing_runs_for_hours(self, hours):
        """An outage longer than the TTL."""
        for _ in range(hours):
            self.world.now += timedelta(minutes=60)
            for exchange in EXCHANGES:
                self.world.trade(exchange, self.world.now - timedelta(seconds=1))
        self.world.expire_warm_rows()

    @rule(name=names)
    def somebody_accepts_what_is_gone(self, name):
        if not self.world.postgres.in_use(name):
            self.world.accept(name)

    @rule(name=st.sampled_from(["candles_1m", "candles_5m"]))
    def somebody_edits_the_partition_column(self, name):
        self.world.edit_partitions(name)

    # Runs.

    def begin(self, layer, clock_off):
        if len(self.world.running(layer)) < _RUNS_PER_LAYER:
            return self.world.begin(layer, clock_off)
        return self.world.running(layer)[0]

    @rule(layer=layers, clock_off=clock_errors)
    def a_run_goes_through(self, layer, clock_off):
        self.begin(layer, clock_off).proceed()

    @rule(clock_off=clock_errors, age=st.integers(0, 300))
    def every_layer_goes_through_between_two_trades(self, clock_off, age):
        """The second is older than the first, and yet in time."""
        self.world.trade(EXCHANGES[0], self.world.now)
        for layer in LAYERS:
            self.begin(layer, clock_off).proceed()
        self.world.trade(EXCHANGES[0], self.world.now - timedelta(seconds=age))

    @rule(layer=layers, clock_off=clock_errors, until=stops, times=st.integers(1, 3))
    def a_run_begins_and_pauses(self, layer, clock_off, until, times):
        actor = self.begin(layer, clock_off)
        for _ in range(times):
            actor.proceed((until,))

    @rule(
        layer=layers,
        until=st.sampled_from(["export", "stage", "refresh", "drop", "fast-forward"]),
        interferes=st.sampled_from(["a run", "compaction", "both"]),
    )
    def a_run_with_something_to_move_is_overtaken(self, layer, until, interferes):
        slow = self.begin_with_something_to_move(layer, until)
        if interferes != "compaction":
            self.begin(layer, timedelta(0)).proceed()
        if interferes != "a run":
            for table in TABLES.in_layer(layer):
                self.compact(table.name)
        if not slow.dead:
            slow.proceed()

    @rule(layer=layers, until=st.sampled_from(["stage", "drop", "fast-forward"]))
    def a_run_with_something_to_move_loses_two_replies(self, layer, until):
        slow = self.begin_with_something_to_move(layer, until)
        for _ in range(2):
            if not slow.dead:
                slow.go(Fate.LOSE_REPLY)
        if not slow.dead:
            slow.proceed()

    def begin_with_something_to_move(self, layer, until):
        for _ in range(7):
            self.world.now += timedelta(minutes=1)
            for exchange in EXCHANGES:
                self.world.trade(exchange, self.world.now)
        for below in LAYERS[: LAYERS.index(layer)]:
            self.begin(below, timedelta(0)).proceed()
        slow = self.begin(layer, timedelta(0))
        if until == "drop":
            self.world.clickhouse.losses = 1
        slow.proceed((until,))
        return slow

    @rule()
    def a_heal_goes_through(self):
        self.world.begin_heal().proceed()

    @rule(until=stops)
    def a_heal_begins_and_pauses(self, until):
        self.world.begin_heal().proceed((until,))

    @rule(name=st.sampled_from(["candles_1m", "candles_5m"]), exchange=exchanges)
    def somebody_makes_a_candle_anew_and_a_heal_goes_through(self, name, exchange):
        """From fewer trades than the one that was moved; the cold one must not lose them."""
        for _ in range(7):
            self.world.now += timedelta(minutes=1)
            for seconds in (0, 1):
                self.world.trade(exchange, self.world.now - timedelta(seconds=seconds))
        for layer in LAYERS:
            self.begin(layer, timedelta(0)).proceed()
        with self.world.losing_a_trade(name):
            self.world.begin_heal().proceed()

    @rule(
        exchange=exchanges,
        until=st.sampled_from(["export", "stage", "swap", "refresh", "query"]),
        interferes=st.sampled_from(["a heal", "a run", "compaction", "lost reply", "late trade"]),
    )
    def a_heal_with_something_to_heal_is_overtaken(self, exchange, until, interferes):
        for layer in LAYERS:
            self.begin(layer, timedelta(0)).proceed()
        if self.world.newest:
            self.world.trade(exchange, min(self.world.newest.values()) - timedelta(minutes=40))
        slow = self.world.begin_heal()
        slow.proceed((until,))
        if interferes == "a heal":
            self.world.begin_heal().proceed()
        elif interferes == "late trade" and self.world.newest:
            self.world.trade(exchange, min(self.world.newest.values()) - timedelta(minutes=50))
        elif interferes == "lost reply" and not slow.dead:
            slow.go(Fate.LOSE_REPLY)
        elif interferes == "compaction":
            for name in TABLES.by_name:
                self.compact(name)
        else:
            self.world.now += timedelta(minutes=7)
            for layer in LAYERS:
                self.begin(layer, timedelta(0)).proceed()
        if not slow.dead:
            slow.proceed()

    @rule(name=names, minutes=st.sampled_from([0, 5, 20]), until=stops | st.none())
    def somebody_skips(self, name, minutes, until):
        self.world.begin_skip(name, timedelta(minutes=minutes)).proceed((until,))

    @rule(name=names, newest_first=st.booleans(), max_rows=st.sampled_from([3, 100]))
    def a_backfill_goes_through(self, name, newest_first, max_rows):
        self.world.begin_backfill(name, max_rows, newest_first=newest_first).proceed()

    @rule(
        name=names,
        until=st.sampled_from(["export", "stage", "refresh", "swap", "query"]),
        times=st.integers(1, 3),
        interferes=st.lists(
            st.sampled_from(
                ["a backfill", "a run", "a heal", "a skip", "compaction", "expiry", "lost reply", "lost row", "replica"]
            ),
            min_size=1,
            max_size=3,
        ),
    )
    def a_backfill_with_something_to_fill_is_overtaken(self, name, until, times, interferes):
        world = self.world
        for _ in range(4):
            world.now += timedelta(minutes=1)
            for exchange in EXCHANGES:
                world.trade(exchange, world.now)
        world.now += timedelta(minutes=7)
        world.begin_skip(name, timedelta(minutes=7)).proceed()
        slow = world.begin_backfill(name, 3)
        for _ in range(times):
            if not slow.dead:
                slow.proceed((until,))
        for each in interferes:
            if each != "lost reply":
                self.interfere(name, each)
            elif not slow.dead:
                slow.go(Fate.LOSE_REPLY)
        if not slow.dead:
            slow.proceed()
        world.clickhouse.losses = 0

    def interfere(self, name, how):
        world = self.world
        match how:
            case "a backfill":
                world.begin_backfill(name, 4, newest_first=True).proceed()
            case "a heal":
                world.begin_heal().proceed()
            case "a skip":
                world.begin_skip(name, timedelta(0)).proceed()
            case "compaction":
                self.compact(name)
            case "expiry" if world.exists(name):
                world.expire_snapshots(name, world.now + timedelta(minutes=1), clear_parents=False)
            case "lost row":
                world.clickhouse.losses = 1
            case "replica":
                world.clickhouse.lagging, world.clickhouse.hidden_rows = 2, 1
            case "a run":
                world.now += timedelta(minutes=7)
                for layer in LAYERS:
                    self.begin(layer, timedelta(0)).proceed()

    def chosen(self, turn):
        running = self.world.running()
        return running[turn % len(running)]

    @precondition(lambda self: self.world.running())
    @rule(turn=turns, steps=st.integers(1, 8))
    def a_run_goes_on(self, turn, steps):
        actor = self.chosen(turn)
        for _ in range(steps):
            if not actor.dead:
                actor.go()

    @precondition(lambda self: self.world.running())
    @rule(turn=turns, until=stops)
    def a_run_goes_on_until(self, turn, until):
        self.chosen(turn).proceed((until,))

    @precondition(lambda self: self.world.running())
    @rule(turn=turns)
    def a_run_ends(self, turn):
        self.chosen(turn).proceed()

    @precondition(lambda self: self.world.running())
    @rule(turn=turns)
    def a_run_crashes(self, turn):
        self.chosen(turn).crash()

    @precondition(lambda self: self.world.running())
    @rule(turn=turns)
    def a_reply_is_lost(self, turn):
        self.chosen(turn).go(Fate.LOSE_REPLY)

    @rule(queries=st.integers(2, 6), rows=st.integers(1, 3))
    def a_replica_lags(self, queries, rows):
        self.world.clickhouse.lagging, self.world.clickhouse.hidden_rows = queries, rows

    @rule(exports=st.integers(1, 3))
    def exports_lose_a_row(self, exports):
        self.world.clickhouse.losses = exports

    @rule(layer=layers, times=st.integers(1, 4))
    def runs_fail_one_after_the_other(self, layer, times):
        """So that their windows are made smaller, whoever still moves the larger ones."""
        self.world.clickhouse.losses = 1000
        for _ in range(times):
            self.begin(layer, timedelta(0)).proceed()
        self.world.clickhouse.losses = 0

    @rule(name=st.sampled_from([*EXCHANGES, "silver"]))
    def rows_of_a_window_that_has_failed_are_deleted_before_they_are_moved(self, name):
        """Nobody may move what is left in silence; then somebody accepts it."""
        world, layer = self.world, TABLES[name].layer
        self.runs_fail_one_after_the_other(layer, 2)
        if world.postgres.in_use(name) or not world.delete_from_open_window(name):
            return
        self.begin(layer, timedelta(0)).proceed()
        world.check()
        world.accept(name)

    @rule(name=names, together=st.booleans())
    def maintenance_rewrites_a_table(self, name, together):
        self.world.begin_rewrite(name, together=together).proceed()

    @rule(
        name=names,
        together=st.booleans(),
        until=st.sampled_from(["read file", "stage", "refresh", "drop", "swap"]),
        interferes=st.sampled_from(["a rewrite", "a heal", "a run", "compaction", "lost reply", "lost row"]),
    )
    def a_rewrite_is_overtaken(self, name, together, until, interferes):
        for layer in LAYERS:
            self.begin(layer, timedelta(0)).proceed()
        if interferes == "a heal" and self.world.newest:
            self.world.trade(EXCHANGES[0], min(self.world.newest.values()) - timedelta(minutes=40))
        if interferes == "lost row":
            self.world.clickhouse.losses = 1
        slow = self.world.begin_rewrite(name, together=together)
        slow.proceed((until,))
        if interferes == "a rewrite":
            self.world.begin_rewrite(name).proceed()
        elif interferes == "a heal":
            self.world.begin_heal().proceed()
        elif interferes == "compaction":
            self.compact(name)
        elif interferes == "lost reply" and not slow.dead:
            slow.go(Fate.LOSE_REPLY)
        elif interferes == "a run":
            self.world.now += timedelta(minutes=7)
            for layer in LAYERS:
                self.begin(layer, timedelta(0)).proceed()
        if not slow.dead:
            slow.proceed()
        self.world.clickhouse.losses = 0

    # Others at the cold tables.

    @rule(name=names)
    def somebody_compacts(self, name):
        self.compact(name)

    def compact(self, name):
        if self.world.head(name) is not None:
            self.world.lakehouse.compact(f"cold.{name}")

    @rule(
        name=names,
        compactions=st.integers(0, 2),
        minutes=st.sampled_from([-1, 0, 10, 60]),
        clear_parents=st.booleans(),
    )
    def somebody_compacts_and_expires_snapshots(self, name, compactions, minutes, clear_parents):
        """All that is older than so many minutes; -1 means all."""
        for _ in range(compactions):
            self.compact(name)
        if self.world.exists(name):
            older_than = self.world.now - timedelta(minutes=minutes)
            self.world.expire_snapshots(name, older_than, clear_parents=clear_parents)

    # Others at the ledger.

    @rule(name=names, watermark=st.sampled_from(["deleted", None, -100, -1, 1, 100]))
    def somebody_damages_the_ledger(self, name, watermark):
        """By hours, where it is a number."""
        postgres = self.world.postgres
        if name not in postgres.entries or postgres.in_use(name):
            return
        if watermark == "deleted":
            del postgres.entries[name]
            return
        entry = postgres.entries[name]
        time = None if watermark is None else self.world.now + timedelta(hours=watermark)
        postgres.entries[name] = replace(entry, row=replace(entry.row, watermark=time, damaged=True))

    @rule()
    def somebody_saves_the_ledger(self):
        self.backup = self.world.postgres.copy()

    @rule()
    def somebody_restores_the_ledger(self):
        self.world.restore_ledger(self.backup)

    @invariant()
    def every_row_is_where_it_belongs(self):
        self.world.check()

    def teardown(self):
        try:
            self.world.settle(zombies_wake=self.zombies_wake)
        finally:
            for actor in self.world.running():
                actor.crash()
            _log.disabled = False


class TwoDeployments(Offload):
    """Another deployment, with a ledger of its own, works on the same cold tables."""

    @rule(layer=layers, until=stops | st.none())
    def another_deployment_runs(self, layer, until):
        if len(self.world.running(f"{layer} elsewhere")) < _RUNS_PER_LAYER:
            self.world.begin_elsewhere(layer).proceed((until,))

    @rule()
    def another_deployment_is_set_up_anew(self):
        self.world.elsewhere.restore(({}, {}))
