"""The machine of the model, with days that are sealed."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.model.actors import Fate
from tests.model.machine import Offload, exchanges
from tests.model.sealed_world import SEALED, SealedWorld

sealed_tables = st.sampled_from(SEALED)
befalls = st.sampled_from(
    [
        *("a sealing", "a late trade", "a heal", "another row", "a row less", "rollback", "compaction", "expiry"),
        *("a verification", "an acceptance", "lake lost", "ledger lost", "lost reply", "kill"),
    ]
)
seal_stops = st.sampled_from(
    ["load seals", "create seals", "append seals", "load table", "ledger read_seals", "ledger commit", "query"]
)
late_minutes = st.integers(0, 29)


class Sealing(Offload):
    """What others than seals are about, :class:`Offload` tries."""

    make_world = SealedWorld
    world: SealedWorld

    exchanges_stall = None
    a_backlog_comes_in = None
    an_exchange_stalls_while_runs_go_through_and_comes_back = None
    a_trade_from_the_future_comes_in = None
    somebody_edits_the_partition_column = None
    somebody_makes_a_candle_anew_and_a_heal_goes_through = None
    runs_fail_one_after_the_other = None
    rows_of_a_window_that_has_failed_are_deleted_before_they_are_moved = None
    a_run_with_something_to_move_loses_two_replies = None

    @initialize(whole=st.booleans(), zombies_wake=st.booleans())
    def choose(self, whole, zombies_wake):
        self.world.lakehouse.whole = whole
        self.zombies_wake = zombies_wake
        self.world.live_through_a_day()

    @rule()
    def days_are_sealed(self):
        self.world.seal()

    @rule(exchange=exchanges, minutes=late_minutes)
    def a_late_trade_of_a_day_that_is_over_comes_in(self, exchange, minutes):
        self.world.late_trade(exchange, minutes)

    @rule(
        exchange=exchanges,
        minutes=late_minutes,
        until=seal_stops,
        times=st.integers(1, 4),
        interferes=st.lists(befalls, min_size=1, max_size=3),
        name=sealed_tables,
    )
    def a_sealing_with_something_to_seal_is_overtaken(self, exchange, minutes, until, times, interferes, name):
        self.world.late_trade(exchange, minutes)
        for _ in range(2):
            self.world.begin_heal().proceed()
        slow = self.world.begin_seal()
        for _ in range(times):
            if not slow.dead:
                slow.proceed((until,))
        for each in interferes:
            if each == "lost reply" and not slow.dead:
                slow.go(Fate.LOSE_REPLY)
            elif each == "kill":
                slow.crash()
            else:
                self.befall(each, name, exchange, minutes)
        if not slow.dead:
            slow.proceed()

    @rule(what=befalls, name=sealed_tables, exchange=exchanges, minutes=late_minutes)
    def something_befalls_what_is_sealed(self, what, name, exchange, minutes):
        self.befall(what, name, exchange, minutes)

    @rule(
        name=sealed_tables,
        until=seal_stops,
        times=st.integers(1, 4),
        what=befalls,
        exchange=exchanges,
        minutes=late_minutes,
    )
    def an_acceptance_is_overtaken(self, name, until, times, what, exchange, minutes):
        """Of a day that is equal, and whose seal is broken all the same."""
        self.world.remove_row(name)
        self.world.late_trade(exchange, minutes)
        self.world.seal()
        slow = self.world.begin_accept(name)
        for _ in range(times):
            if not slow.dead:
                slow.proceed((until,))
        self.befall(what, name, exchange, minutes)
        if not slow.dead:
            slow.proceed()

    def befall(self, what, name, exchange, minutes):
        world = self.world
        if world.head(name) is None:
            return
        happens = {
            "a sealing": world.seal,
            "a late trade": lambda: world.late_trade(exchange, minutes),
            "a heal": lambda: world.begin_heal().proceed(),
            "another row": lambda: world.alter_row(name),
            "a row less": lambda: world.remove_row(name),
            "rollback": lambda: self.roll_back(name, 1 + minutes % 4),
            "compaction": lambda: self.compact(name),
            "expiry": lambda: world.expire_snapshots(name, world.now, clear_parents=False),
            "a verification": lambda: world.begin_verify().proceed(),
            "an acceptance": lambda: world.begin_accept(name).proceed(),
            "lake lost": lambda: world.lose_seals("lake"),
            "ledger lost": lambda: world.lose_seals("ledger"),
        }
        if what in happens:
            happens[what]()

    def roll_back(self, name, snapshots):
        """Beside nobody who would still write down what the cold table was."""
        if all(actor.name in ("seal", "accept") for actor in self.world.running()):
            self.world.roll_back(name, snapshots)
