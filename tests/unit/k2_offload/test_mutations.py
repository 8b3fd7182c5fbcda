"""The model notices when a guard of the protocol is taken away: each guard is needed, and the model sees it."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from k2_offload.adapters.lake_seals import LakeSeals
from k2_offload.adapters.ledger_seals import LedgerSeals
from k2_offload.adapters.locked_table import LockedTable
from k2_offload.core import cuts, fault_points, queries
from k2_offload.core.backfill import audit_backfill
from k2_offload.core.day_comparison import DayComparison
from k2_offload.core.exactly_once import (
    ATTEMPT_PROPERTY,
    FIRST_WATERMARK,
    WINDOW_PROPERTY,
    LedgerUpdate,
    PublishDecision,
    Stamp,
    WindowId,
    audit,
    find_published,
)
from k2_offload.core.heal import HealStamp
from k2_offload.core.seals import check_sealing, find_break, is_heal
from k2_offload.core.windows import Window, window_high
from k2_offload.work import accept_seal, cycle, seals, verify_seals, watermarks
from offload_job import backfill as filling
from offload_job import heal as healing
from offload_job import move, swap
from offload_job.cold_table_writer import ColdTableWriter
from offload_job.maintenance import rewrite
from tests.model.actors import Fate
from tests.model.iceberg import Lakehouse
from tests.model.machine import Offload, TwoDeployments
from tests.model.sealed_world import SealedWorld
from tests.model.world import EXCHANGES, LAYERS, LONG, SHORT, START, World

# Greenlets, whose calls a tracer mixes up; and what they run is run by other tests as well.
pytestmark = pytest.mark.no_cover

MINUTE = timedelta(minutes=1)
SETTINGS = settings(
    max_examples=400,
    stateful_step_count=100,  # what breaks late is found sooner by long runs than by many
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    print_blob=False,
    suppress_health_check=list(HealthCheck),
)


def believing(entry, published):
    """Plan goes on from where the ledger says; only the open window is looked for in the cold table."""
    committed = entry.open_window if published and published.window_id == entry.open_window else None
    resume = None if committed else entry.open_window
    watermark = committed.window.high if committed else entry.watermark or FIRST_WATERMARK
    return LedgerUpdate(watermark, committed, resume, None, moved=False)


def believe_the_ledger(patch):
    patch.setattr(cycle, "follow_chain", lambda _table, entry, _uuid, published: believing(entry, published))


def publish_whatever_the_chain_holds(patch):
    patch.setattr(move, "decide_publish", lambda *_: PublishDecision.PUBLISH)


def keep_no_window_id(patch):
    patch.setattr(Stamp, "summary", property(lambda stamp: {ATTEMPT_PROPERTY: stamp.attempt}))


def advance_the_watermark_first(patch):
    opened = LockedTable.open

    def open_and_advance(self, window_id, **values):
        opened(self, window_id, **values)
        self._run("set_watermark", watermark=window_id.window.high, table_uuid=window_id.table_uuid, snapshot_id=None)

    patch.setattr(LockedTable, "open", open_and_advance)
    believe_the_ledger(patch)


def go_on_after_another_deployment(patch):
    patch.setattr("k2_offload.core.exactly_once.refuse_another_ledger", lambda *_: None)


def export_everything_below_the_window(patch):
    def below(table, window):
        return queries.within(table, Window(FIRST_WATERMARK, window.high))

    patch.setattr(cycle, "queries", SimpleNamespace(**vars(queries) | {"within": below}))


def skip_the_audit(patch):
    patch.setattr(move, "audit", lambda *_, **__: None)


def forget_how_many_rows_were_planned(patch):
    patch.setattr(move, "audit", lambda *about, **rows: audit(*about, **rows | {"planned_rows": 0}))


def make_windows_smaller_whatever_has_gone(patch):
    patch.setattr(cuts, "check_not_fewer", lambda *_: None)


def believe_rows_from_the_future(patch):
    newest_row = queries.newest_row
    patch.setattr(queries, "newest_row", lambda table, since, _before=None: newest_row(table, since))


def register_files_in_another_partition(patch):
    patch.setattr("k2_offload.adapters.cold_table.ColdTable.check_partitions", lambda *_: None)


def let_the_ttl_overtake(patch):
    patch.setattr(cycle, "find_expired", lambda *_, **__: None)


def swap_whatever_has_come_between(patch):
    patch.setattr(healing, "check_swap", lambda *_, **__: None)


def heal_with_whatever_was_exported(patch):
    patch.setattr(healing, "audit_heal", lambda *_, **__: None)


def heal_as_a_window(patch):
    summary = HealStamp.summary.fget

    def as_window(stamp):
        window_id = WindowId(stamp.heal_id.table_uuid, Window(FIRST_WATERMARK, START))
        return {**summary(stamp), WINDOW_PROPERTY: str(window_id)}

    patch.setattr(HealStamp, "summary", property(as_window))


def heal_candles_that_lose_trades(patch):
    patch.setattr(DayComparison, "obstacle", lambda *_, **__: None)


def rewrite_without_audit(patch):
    patch.setattr(rewrite, "audit_rewrite", lambda *_, **__: None)


def audit_the_first_day_of_a_rewrite(patch):
    audit = rewrite.audit_rewrite
    seen = set()

    def first(table, day, **numbers):
        if not seen or day in seen:
            seen.add(day)
            audit(table, day, **numbers)

    patch.setattr(rewrite, "audit_rewrite", first)


def rewrite_files_that_have_gone(patch):
    patch.setattr(swap, "check_rewrite", lambda *_: None)


def bring_whatever_was_exported(patch):
    patch.setattr(filling, "audit_backfill", lambda *_, **__: None)


def bring_what_a_lagging_replica_shows(patch):
    patch.setattr(
        filling, "audit_backfill", lambda *about, **rows: audit_backfill(*about, **rows | {"planned_rows": 0})
    )


def replace_main(patch):
    made = Lakehouse.__init__

    def without_check(self, *services):
        made(self, *services)
        self.check_ancestry = False

    patch.setattr(Lakehouse, "__init__", without_check)


def leave_no_buffer(patch):
    patch.setattr(cycle, "window_high", lambda **values: window_high(**values | {"buffer": timedelta(0)}))


def run_past_the_last_row(patch):
    def high(*, now, buffer, last_row, limit, **_):
        return last_row and min(now - buffer, limit or now)

    patch.setattr(cycle, "window_high", high)


def leave_no_room_for_rows_out_of_order(patch):
    patch.setattr(cycle, "window_high", lambda **values: window_high(**values | {"out_of_order": timedelta(0)}))


def run_past_the_layer_below(patch):
    patch.setattr(cycle, "upstream_limit", lambda *_: None)


def trust_a_clock_that_is_ahead(patch):
    patch.setattr("k2_offload.work.cycle.sorted", lambda clocks: [max(clocks)] * 2, raising=False)


def remove_files_after_a_reply_was_lost(patch):
    patch.setattr(ColdTableWriter, "may_be_named", lambda *_: False)


def remove_files_of_a_snapshot_that_may_be_there(patch):
    drop = ColdTableWriter.drop
    patch.setattr(ColdTableWriter, "drop", lambda *about: drop(*about) or True)


class EqualToAny(datetime):
    """A time that is taken for equal to every other one."""

    def __eq__(self, _):
        return True

    __hash__ = datetime.__hash__


def lose_what_expires_during_a_skip(patch):
    patch.setattr(watermarks, "FIRST_WATERMARK", EqualToAny(2000, 1, 1, tzinfo=UTC))


def forget_the_marker(patch):
    """Published windows are looked for without the branch that remembers the last one."""
    for reader in ("offload_job.cold_table_writer", "k2_offload.adapters.cold_table"):
        patch.setattr(
            f"{reader}.find_published",
            lambda table, table_uuid, head, _, snapshot_of: find_published(table, table_uuid, head, {}, snapshot_of),
        )


def seal_days_that_differ(patch):
    patch.setattr(seals, "may_be_sealed", lambda _: True)


def seal_days_that_are_not_over(patch):
    patch.setattr(seals, "is_over", lambda *_: True)


def seal_what_was_rolled_back(patch):
    patch.setattr(
        seals,
        "check_sealing",
        lambda seal, _, __, known: check_sealing(seal, seal.table_uuid, {seal.snapshot_id}, known),
    )


def believe_the_ledger_of_seals(patch):
    patch.setattr(seals, "check_sealing", lambda *about: check_sealing(*about[:-1], ()))


def add_to_seals_that_were_not_read(patch):
    patch.setattr("pyiceberg.table.TableProperties.COMMIT_NUM_RETRIES", "another property")


def tell_the_ledger_of_seals_first(patch):
    ledgers, append = [], LakeSeals.append

    def of_ledger(ledger):
        ledgers.append(LedgerSeals(ledger))
        return ledgers[-1]

    def record_and_append(lake, found):
        ledgers[-1].record(found)
        append(lake, found)

    patch.setattr(seals, "LedgerSeals", of_ledger)
    patch.setattr(LakeSeals, "append", record_and_append)


def take_any_change_for_a_heal(patch):
    patch.setattr("k2_offload.core.seals.is_heal", lambda *_: True)


def look_at_the_last_change_only(patch):
    def of_last_change(seal, steps, content_of):
        return None if is_heal(steps[-1].snapshot, seal) else find_break(seal, steps, content_of)

    patch.setattr(verify_seals, "find_break", of_last_change)


def follow_broken_seals(patch):
    patch.setattr(seals, "verify_seal", lambda _, cold, __: verify_seals.Verified(cold.snapshot_id, healed=True))


def keep_no_second_copy_of_seals(patch):
    for module in (seals, verify_seals):
        patch.setattr(module, "share_seals", lambda _, lake, __: lake.read()[1])


def accept_what_clickhouse_holds_otherwise(patch):
    patch.setattr(accept_seal, "check_acceptance", lambda _: None)


def moved():
    """A world whose tables have moved rows, and whose bronze tables have more."""
    world = World(LONG)
    for _ in range(2):
        for _ in range(7):
            world.now += MINUTE
            for exchange in EXCHANGES:
                world.trade(exchange, world.now)
        world.now += 7 * MINUTE
        if not world.exists("bronze_a"):
            run_every_layer(world)
    world.check()
    return world


def run_every_layer(world):
    for layer in LAYERS:
        world.begin(layer).proceed()


def paused(actor, until):
    actor.proceed((until,))
    assert actor.next_io == until
    return actor


def lose_two_replies(actor):
    for _ in range(2):
        actor.go(Fate.LOSE_REPLY)
    actor.proceed()


def rows_of_a_window_that_has_failed_are_deleted(world):
    world.clickhouse.losses = 1000
    for _ in range(2):
        world.begin("bronze").proceed()
    world.clickhouse.losses = 0
    assert world.delete_from_open_window("bronze_a")
    world.begin("bronze").proceed()
    world.check()
    world.accept("bronze_a")


def another_deployment_takes_a_table_over(world):
    """Its ledger knows nothing of the tables; what it finds there is as that of one that was lost."""
    world.begin_elsewhere("bronze").proceed()
    world.check()
    world.begin("bronze").proceed()


def a_feed_stalls_and_comes_back(world):
    """With a row slightly older than its last one, and one slightly younger; another one lies far ahead."""
    world.trade("bronze_a", world.now + timedelta(days=365))
    world.trade("bronze_a", world.now)
    last = world.now
    world.now += 20 * MINUTE
    world.begin("bronze").proceed()
    world.trade("bronze_a", last - timedelta(seconds=5))
    world.trade("bronze_a", last + MINUTE)


def a_run_whose_clock_is_ahead_overtakes_a_row(world):
    world.trade("bronze_a", world.now)
    world.begin("bronze", timedelta(hours=1)).proceed()
    world.trade("bronze_a", world.now - MINUTE)


def the_partition_column_is_edited_at_midnight(world):
    world.edit_partitions("candles_5m")
    while world.now < START + timedelta(hours=1):
        world.now += MINUTE
        world.trade("bronze_a", world.now)
    for _ in range(3):
        run_every_layer(world)


def the_chain_is_cut(world):
    for _ in range(2):
        world.lakehouse.compact("cold.bronze_a")
    world.lakehouse.expire("cold.bronze_a", world.now + MINUTE, clear_parents=True)


def replies_to_staging_are_lost(world):
    lose_two_replies(paused(world.begin("bronze"), "stage"))


def a_drop_is_overtaken(world):
    world.clickhouse.losses = 1
    slow = paused(world.begin("bronze"), "drop")
    world.lakehouse.compact("cold.bronze_a")
    slow.proceed()


def rows_expire_while_a_person_thinks_about_a_skip(world):
    world.keep_for(SHORT)
    thinking = paused(world.begin_skip("bronze_a", 0 * MINUTE), "adopt")
    for _ in range(5):
        world.now += 60 * MINUTE
        world.trade("bronze_a", world.now)
    world.expire_warm_rows()
    thinking.proceed()


def a_rewrite_loses_a_row(world):
    world.clickhouse.losses = 1
    world.begin_rewrite("bronze_a").proceed()


def a_rewrite_of_two_days_loses_a_row_of_the_last(world):
    while world.now < START + timedelta(hours=1):
        world.now += MINUTE
        world.trade("bronze_a", world.now)
    for _ in range(3):
        run_every_layer(world)
    a_rewrite_loses_a_row(world)


def two_rewrites_replace_the_same_files(world):
    slow = paused(world.begin_rewrite("bronze_a"), "swap")
    world.begin_rewrite("bronze_a").proceed()
    slow.proceed()


def two_heals_replace_the_same_day(world):
    world.trade("bronze_a", START - 40 * MINUTE)
    slow = paused(world.begin_heal(), "swap")
    world.begin_heal().proceed()
    slow.proceed()


def a_heal_loses_rows(world):
    """The last one of each of its two files: the late one, and one that has been moved."""
    world.trade("bronze_a", START - 40 * MINUTE)
    world.trade("bronze_a", world.now)
    world.now += 40 * MINUTE
    run_every_layer(world)
    world.clickhouse.losses = 2
    world.begin_heal().proceed()


def a_late_row_comes_before_its_day_is_sealed(world):
    world.live_through_a_day()
    for _ in range(2):
        world.begin_heal().proceed()
    world.late_trade("bronze_a", 5)
    world.begin_seal().proceed()


def a_sealing_comes_before_the_day_is_over(world):
    for _ in range(2):
        world.now += 7 * MINUTE
        for exchange in EXCHANGES:
            world.trade(exchange, world.now)
        run_every_layer(world)
    world.seal()
    world.live_through_a_day()


def healed(world):
    """And compared: the successor of a seal is due."""
    world.live_through_a_day()
    world.seal()
    world.check()
    heal_late_row(world, 5)


def heal_late_row(world, minutes):
    world.late_trade("bronze_a", minutes)
    for _ in range(2):
        world.begin_heal().proceed()


def a_rollback_overtakes_a_sealing(world):
    healed(world)
    world.when_compared(lambda: world.roll_back("bronze_a", 1))
    world.begin_seal().proceed()


def the_ledger_is_lost_while_days_are_sealed(world):
    healed(world)
    slow = world.begin_seal()
    for until in ("load seals", "ledger read_seals", "ledger has_seals"):  # the lake's are known, the ledger's not yet
        paused(slow, until)
    world.lose_seals("ledger")
    slow.proceed()


def two_sealings_see_other_rows(world):
    """One of them before a heal, one after it."""
    healed(world)

    def seal_after_a_heal():
        heal_late_row(world, 6)
        world.begin_seal().proceed()

    world.when_compared(seal_after_a_heal)
    world.begin_seal().proceed()


def a_sealed_day_is_changed_before_it_is_healed(world):
    world.live_through_a_day()
    world.seal()
    world.remove_row("bronze_a")
    heal_late_row(world, 5)
    world.begin_seal().proceed()


def the_ledger_loses_all_seals(world):
    healed(world)
    world.begin_seal().proceed()
    world.lose_seals("ledger")


def somebody_accepts_rows_that_clickhouse_holds_otherwise(world):
    world.live_through_a_day()
    world.seal()
    world.alter_row("bronze_a")
    world.begin_accept("bronze_a").proceed()


BY_SEARCH = [
    believe_the_ledger,
    publish_whatever_the_chain_holds,
    keep_no_window_id,
    advance_the_watermark_first,
    export_everything_below_the_window,
    skip_the_audit,
    forget_how_many_rows_were_planned,
    let_the_ttl_overtake,
    replace_main,
    leave_no_buffer,
    run_past_the_layer_below,
    heal_candles_that_lose_trades,
    bring_whatever_was_exported,
    bring_what_a_lagging_replica_shows,
]
IN_SHORT_RUNS = {
    go_on_after_another_deployment: another_deployment_takes_a_table_over,
    make_windows_smaller_whatever_has_gone: rows_of_a_window_that_has_failed_are_deleted,
    believe_rows_from_the_future: a_feed_stalls_and_comes_back,
    run_past_the_last_row: a_feed_stalls_and_comes_back,
    leave_no_room_for_rows_out_of_order: a_feed_stalls_and_comes_back,
    trust_a_clock_that_is_ahead: a_run_whose_clock_is_ahead_overtakes_a_row,
    register_files_in_another_partition: the_partition_column_is_edited_at_midnight,
    forget_the_marker: the_chain_is_cut,
    lose_what_expires_during_a_skip: rows_expire_while_a_person_thinks_about_a_skip,
    remove_files_after_a_reply_was_lost: replies_to_staging_are_lost,
    remove_files_of_a_snapshot_that_may_be_there: a_drop_is_overtaken,
    rewrite_without_audit: a_rewrite_loses_a_row,
    audit_the_first_day_of_a_rewrite: a_rewrite_of_two_days_loses_a_row_of_the_last,
    rewrite_files_that_have_gone: two_rewrites_replace_the_same_files,
    swap_whatever_has_come_between: two_heals_replace_the_same_day,
    heal_with_whatever_was_exported: a_heal_loses_rows,
    heal_as_a_window: two_heals_replace_the_same_day,
}
"""What a random search finds too, in a minute or so each: `make soak` has the time."""


OF_SEALS = {
    seal_days_that_differ: a_late_row_comes_before_its_day_is_sealed,
    seal_days_that_are_not_over: a_sealing_comes_before_the_day_is_over,
    seal_what_was_rolled_back: a_rollback_overtakes_a_sealing,
    believe_the_ledger_of_seals: the_ledger_is_lost_while_days_are_sealed,
    add_to_seals_that_were_not_read: two_sealings_see_other_rows,
    tell_the_ledger_of_seals_first: two_sealings_see_other_rows,
    take_any_change_for_a_heal: a_sealed_day_is_changed_before_it_is_healed,
    look_at_the_last_change_only: a_sealed_day_is_changed_before_it_is_healed,
    follow_broken_seals: a_sealed_day_is_changed_before_it_is_healed,
    keep_no_second_copy_of_seals: the_ledger_loses_all_seals,
    accept_what_clickhouse_holds_otherwise: somebody_accepts_rows_that_clickhouse_holds_otherwise,
}
"""In a world of their own, with a day that is over."""


def name_of(mutation):
    return mutation.__name__.replace("_", " ")


def stays_right(run):
    world = moved()
    run(world)
    world.check()
    world.settle(zombies_wake=True)


@pytest.mark.parametrize("mutation", IN_SHORT_RUNS, ids=name_of)
def test_a_short_run_fails_without_a_guard(monkeypatch, mutation):
    stays_right(IN_SHORT_RUNS[mutation])
    mutation(monkeypatch)
    with pytest.raises(AssertionError, match=r"^(bronze_a|candles_.m|files)"):
        stays_right(IN_SHORT_RUNS[mutation])


def seals_stay_right(run):
    world = SealedWorld()
    try:
        run(world)
        world.check()
        world.settle(zombies_wake=True)
    finally:
        fault_points.arm(None)


@pytest.mark.parametrize("mutation", OF_SEALS, ids=name_of)
def test_a_short_run_with_seals_fails_without_a_guard(monkeypatch, mutation):
    seals_stay_right(OF_SEALS[mutation])
    mutation(monkeypatch)
    with pytest.raises(AssertionError, match=r"^(bronze_a|a lost seal)"):
        seals_stay_right(OF_SEALS[mutation])


@pytest.mark.search
def test_the_model_passes_with_all_guards():
    """Every search begins with these runs: what is found in them is found for want of a guard."""
    run_state_machine_as_test(Offload, settings=settings(SETTINGS, max_examples=25))


@pytest.mark.search
@pytest.mark.parametrize(
    "mutation", [*BY_SEARCH, *(IN_SHORT_RUNS if "K2_MODEL_EXAMPLES" in os.environ else ())], ids=name_of
)
def test_the_model_fails_without_a_guard(monkeypatch, mutation):
    mutation(monkeypatch)
    machine = TwoDeployments if mutation is go_on_after_another_deployment else Offload
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=SETTINGS)
