"""The real plan, move and commit against simulated services, in any order and with anything going wrong.

First what the model has found, each as short as it became.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings

from k2_offload.core.day_comparison import TTL_MARGIN
from k2_offload.core.errors import AuditFailed, ExpiredRows, OffloadError
from k2_offload.core.exactly_once import WindowId
from k2_offload.core.windows import Window, to_micros
from k2_offload.work import reconcile as comparison
from k2_offload.work.accept import find_missed
from tests.model import world as model
from tests.model.actors import Fate
from tests.model.machine import Offload, TwoDeployments
from tests.model.sealed_world import SealedWorld
from tests.model.sealing import Sealing
from tests.model.world import LAYERS, LONG, SHORT, World

# Greenlets, whose calls a tracer mixes up; and what they run is run by other tests as well.
pytestmark = pytest.mark.no_cover

MINUTE = timedelta(minutes=1)


def trade(world, minutes, *exchanges):
    for _ in range(minutes):
        world.now += MINUTE
        for exchange in exchanges:
            world.trade(exchange, world.now)


def cannot_be_counted(patch):
    refuse(patch, "count_days", lambda table: table.name)


def is_refused(patch):
    refuse(patch, "compare_day", lambda days: days.table.name)


def refuse(patch, step, name_of):
    real = getattr(comparison, step)

    def refusing(tiers, of, *rest):
        if name_of(of) == "candles_5m":
            raise OffloadError("candles_5m: not now")
        return real(tiers, of, *rest)

    patch.setattr(comparison, step, refusing)


def was_not_chosen(patch):
    real = comparison.reconcile
    patch.setattr(
        model, "reconcile", lambda tiers, tables: real(tiers, [each for each in tables if each.name != "candles_5m"])
    )


def is_left_for_the_next_run(patch):
    """Time runs out right before it."""

    def reconcile(tiers, tables):
        now, minutes = tiers.now(), [0]
        for found in comparison.reconcile(replace(tiers, now=lambda: now + minutes[0] * MINUTE), tables, budget=MINUTE):
            minutes[0] = 2 if found.table.name == "candles_1m" else 0
            yield found

    patch.setattr(model, "reconcile", reconcile)


@pytest.mark.parametrize("hindrance", [cannot_be_counted, is_refused, was_not_chosen, is_left_for_the_next_run])
def test_a_candle_that_could_not_be_compared_is_healed_by_the_next_run(monkeypatch, hindrance):
    """Its trade was healed in the tables below meanwhile, so that no count differs any more."""
    world = World(LONG)
    trade(world, 80, "bronze_a", "bronze_b")
    for _ in range(6):
        for layer in LAYERS:
            world.begin(layer).proceed()
    world.begin_heal().proceed()
    world.now += 30 * MINUTE
    world.trade("bronze_a", world.now - 75 * MINUTE)
    with monkeypatch.context() as patch:
        hindrance(patch)
        world.begin_heal().proceed()
    assert unequal(world, "bronze_a", "silver", "candles_1m", "candles_5m") == {"candles_5m"}
    world.now += 30 * MINUTE
    world.begin_heal().proceed()
    assert not unequal(world, "candles_5m")


def unequal(world, *tables):
    """Those whose cold tier lacks or has an older version of a row below the watermark."""
    return {
        name
        for name in tables
        for row in world.clickhouse.tables[name].values()
        if row.at < to_micros(world.watermark(name)) and world.cold(name).get(row.id) != row
    }


def test_gold_does_not_pass_silver_when_a_quiet_market_wakes_during_its_plan():
    world = World()
    trade(world, 20, "bronze_a", "bronze_b")
    for _ in range(2):
        world.now += 45 * MINUTE
        for layer in LAYERS:
            world.begin(layer).proceed()
    gold = world.begin("gold")
    while not world.postgres.in_use("candles_5m"):  # the first of the gold tables is planned
        gold.go()
    trade(world, 1, "bronze_a", "bronze_b")
    trade(world, 12, "bronze_a")
    gold.proceed()
    world.check()


def test_a_plan_that_waited_for_its_lock_does_not_undo_what_happened_meanwhile():
    world = World()
    for _ in range(2):
        trade(world, 20, "bronze_a", "bronze_b")
        world.begin("bronze").proceed()
    trade(world, 20, "bronze_a", "bronze_b")
    slow = world.begin("bronze")
    slow.proceed(("ledger lock_table",))
    world.begin("bronze").proceed()
    before = world.postgres.entries["bronze_a"].row.watermark
    slow.proceed(("load table", "stage"))
    assert world.postgres.entries["bronze_a"].row.watermark >= before


def fail_twice(world):
    """Two runs whose exports lose a row each time."""
    world.clickhouse.losses = 1000
    for _ in range(2):
        world.begin("bronze").proceed()
    world.clickhouse.losses = 0


def open_window(world, table="bronze_a"):
    [window_id] = world.postgres.entries[table].open_windows
    return WindowId.parse(window_id).window


@pytest.mark.parametrize("zombie_waits_at", ["export", "stage", "refresh", "fast-forward"])
@pytest.mark.parametrize("zombie_first", [True, False], ids=["the larger first", "the smaller first"])
def test_a_window_made_smaller_and_a_zombie_that_still_moves_the_larger_one(zombie_waits_at, zombie_first):
    world = World()
    trade(world, 20, "bronze_a")
    zombie = world.begin("bronze")
    zombie.proceed((zombie_waits_at,))
    larger = open_window(world)
    fail_twice(world)
    smaller = world.begin("bronze")
    smaller.proceed(("fast-forward",))
    assert open_window(world) == Window(larger.low, open_window(world).high)
    assert open_window(world).high < larger.high
    for actor in [zombie, smaller] if zombie_first else [smaller, zombie]:
        actor.proceed()
        world.check()
    assert (world.watermark("bronze_a") == larger.high) == zombie_first
    world.settle(zombies_wake=True)


def move_in(world, minutes):
    """One run that takes so long; returns how many rows its window has."""
    run = world.begin("bronze")
    run.proceed(("export",))
    [rows] = [each.rows for each in world.postgres.entries["bronze_a"].windows.values() if each.state == "open"]
    world.now += minutes * MINUTE
    run.proceed()
    return rows


def test_windows_stay_smaller_for_as_long_as_they_take_long_and_the_table_has_not_caught_up():
    world = World()
    trade(world, 40, "bronze_a")
    fail_twice(world)
    assert [move_in(world, minutes) for minutes in (5, 5, 10)] == [17, 12, 10]
    assert world.postgres.entries["bronze_a"].row.row_limit is None


def test_a_window_whose_rows_have_gone_is_not_made_smaller_in_silence():
    world = World()
    trade(world, 20, "bronze_a")
    fail_twice(world)
    larger = open_window(world)
    for trade_id in list(world.clickhouse.tables["bronze_a"])[:3]:
        del world.clickhouse.tables["bronze_a"][trade_id]
    cycle = world.cycle()
    with pytest.raises(AuditFailed, match=r"3 fewer than the .*`k2 accept bronze_a`"):
        cycle.plan(cycle.tables["bronze_a"])
    assert open_window(world) == larger
    world.accept("bronze_a")
    cycle.plan(cycle.tables["bronze_a"])
    assert open_window(world) == larger, "it has not failed for its size"
    fail_twice(world)
    cycle.plan(cycle.tables["bronze_a"])
    assert open_window(world).high < larger.high
    world.settle(zombies_wake=True)


def test_rows_that_go_after_others_were_accepted_are_on_record_once_somebody_accepts_them_too():
    world = World()
    trade(world, 20, "bronze_a")
    fail_twice(world)
    cycle = world.cycle()
    for _ in range(2):
        for trade_id in list(world.clickhouse.tables["bronze_a"])[:3]:
            del world.clickhouse.tables["bronze_a"][trade_id]
        world.accept("bronze_a")
        cycle.plan(cycle.tables["bronze_a"])
    assert [rows for *_, rows, _ in world.postgres.entries["bronze_a"].gaps] == [3, 3]


def test_a_plan_that_is_repeated_makes_a_window_smaller_only_once():
    world = World()
    trade(world, 20, "bronze_a")
    fail_twice(world)
    cycle = world.cycle()
    cycle.plan(cycle.tables["bronze_a"])
    once = open_window(world)
    for _ in range(3):
        cycle.plan(cycle.tables["bronze_a"])
    assert open_window(world) == once
    cycle.commit(cycle.tables["bronze_a"])
    cycle.commit(cycle.tables["bronze_a"])
    cycle.plan(cycle.tables["bronze_a"])
    assert open_window(world).high < once.high


def test_a_move_says_what_it_has_published_also_where_it_had_to_stage_again(monkeypatch):
    said, move = [], model.job.move
    monkeypatch.setattr(model.job, "move", lambda *about: said.append(move(*about)))
    world = World()
    trade(world, 20, "bronze_a")
    world.begin("bronze").proceed()
    trade(world, 20, "bronze_a")
    job = world.begin("bronze")
    job.proceed(("fast-forward",))
    world.lakehouse.compact("cold.bronze_a")
    job.proceed()
    [last] = said[1:]
    assert last.snapshot_id == world.lakehouse.tables["cold.bronze_a"].current_snapshot_id
    world.check()


def is_red(postgres, by):
    """Whether bronze_a stands in a ledger as refused, because of that other ledger."""
    row = postgres.entries["bronze_a"].row
    return row.status == "failed" and f"another deployment, whose ledger has the id {by}," in row.reason


def is_green(postgres):
    return postgres.entries["bronze_a"].row.status == "success"


@pytest.mark.parametrize("until", [None, "export", "fast-forward"])
def test_of_two_deployments_at_one_cold_table_one_is_always_red(until):
    """Also where a job of the first one is under way; the second one's ledger is empty."""
    world = World()
    trade(world, 20, "bronze_a")
    world.begin("bronze").proceed()
    trade(world, 20, "bronze_a")
    slow = world.begin("bronze") if until else None
    if slow is not None:
        slow.proceed((until,))
    world.begin_elsewhere("bronze").proceed()
    assert is_green(world.elsewhere)
    if slow is not None:
        slow.proceed()
    trade(world, 20, "bronze_a")
    before = world.postgres.entries["bronze_a"].row.watermark
    world.begin("bronze").proceed()
    assert is_red(world.postgres, "another's")
    assert world.postgres.entries["bronze_a"].row.watermark == before
    world.accept("bronze_a")
    trade(world, 20, "bronze_a")
    world.begin("bronze").proceed()
    assert is_green(world.postgres)
    trade(world, 20, "bronze_a")
    world.begin_elsewhere("bronze").proceed()
    assert is_red(world.elsewhere, "ours")
    world.settle(zombies_wake=True)


def test_a_ledger_that_was_lost_takes_over_and_an_older_one_that_is_restored_waits_for_a_person():
    world, backups = World(), [({}, {})]
    for ledger_id, backup in (("ours", 0), ("made anew", 0), ("ours", 1)):
        world.postgres.restore(backups[backup])
        world.postgres.ledger_id = ledger_id
        trade(world, 20, "bronze_a")
        world.begin("bronze").proceed()
        backups.append(world.postgres.copy())
        assert is_green(world.postgres) == (backup == 0)
    assert is_red(world.postgres, "made anew")
    world.settle(zombies_wake=True)


def test_a_backup_of_the_ledger_that_has_planned_what_followed_goes_on_by_itself():
    world = World()
    trade(world, 20, "bronze_a")
    world.begin("bronze").proceed()
    backup = world.postgres.copy()
    for _ in range(2):
        trade(world, 20, "bronze_a")
        world.begin("bronze").proceed()
    world.postgres.restore(backup)
    trade(world, 20, "bronze_a")
    world.begin("bronze").proceed()
    assert is_green(world.postgres)
    world.check()


def test_an_empty_table_whose_parents_were_cleared_knows_what_is_left_out():
    world = World()
    world.begin("gold").proceed()
    world.begin_skip("candles_5m", timedelta(0)).proceed()
    left_out = world.skips("candles_5m").left_out
    for _ in range(2):
        world.lakehouse.compact("cold.candles_5m")
    world.lakehouse.expire("cold.candles_5m", world.now + MINUTE, clear_parents=True)
    assert left_out
    assert world.cycle().catalog.load(world.tables["candles_5m"]).skips.left_out == left_out
    world.check()


def test_a_clock_that_is_behind_hides_no_row_that_has_expired():
    world = World()
    trade(world, 20, "bronze_a")
    world.begin("bronze").proceed()
    trade(world, 30, "bronze_a")
    world.now += timedelta(hours=2, minutes=10)
    world.expire_warm_rows()
    cycle = world.cycle(-timedelta(hours=2))
    with pytest.raises(ExpiredRows, match="k2 accept bronze_a"):
        cycle.plan(cycle.tables["bronze_a"])
    [missed] = find_missed(cycle.tiers, cycle.tables["bronze_a"])
    assert missed.gap.window.high >= world.now - SHORT + TTL_MARGIN


def test_rows_that_expire_while_a_person_thinks_about_a_skip_are_not_nobodys_loss():
    world = World()
    trade(world, 20, "bronze_a")
    world.begin("bronze").proceed()
    world.check()
    thinking = world.begin_skip("bronze_a", timedelta(0))
    thinking.proceed(("adopt",))
    for _ in range(5):
        world.now += timedelta(hours=1)
        world.trade("bronze_a", world.now)
    world.expire_warm_rows()
    thinking.proceed()
    cycle = world.cycle()
    with pytest.raises(ExpiredRows, match="k2 accept bronze_a"):
        cycle.plan(cycle.tables["bronze_a"])
    world.settle(zombies_wake=True)


@pytest.mark.parametrize("what", ["heal", "rewrite"])
def test_what_has_expired_while_a_job_slept_is_no_unexpected_error(what):
    """It ends with a sentence, the actor catches no other error; and the next run does the work."""
    world = World(LONG)
    trade(world, 30, "bronze_a")
    world.begin("bronze").proceed()
    world.trade("bronze_a", world.now - 20 * MINUTE)
    slow = world.begin_heal() if what == "heal" else world.begin_rewrite("bronze_a")
    slow.proceed(("swap",) if what == "heal" else ("read file",))
    assert not slow.dead
    trade(world, 10, "bronze_a")
    world.begin("bronze").proceed()
    world.lakehouse.expire("cold.bronze_a", world.now + MINUTE, clear_parents=False)
    slow.proceed()
    world.settle(zombies_wake=True)


def test_a_broken_seal_whose_day_was_brought_back_is_followed_after_a_heal():
    """It was known as broken until the next verification, and nobody looks at the successor of such a seal."""
    world = SealedWorld()
    world.live_through_a_day()
    world.seal()
    world.remove_row("bronze_a")
    world.begin_verify().proceed()
    [problem] = filter(None, (row["problem"] for row in world.postgres.seals.values()))
    assert "its seal is broken" in problem
    for _ in range(2):
        world.begin_heal().proceed()
    world.late_trade("bronze_a", 5)
    world.seal()
    world.begin_verify().proceed()
    world.seal()
    assert len([row for row in world.lakehouse.seals.rows if row["table_name"] == "bronze_a"]) == 2
    world.settle(zombies_wake=True)


@pytest.mark.parametrize("after", range(1, 9))
def test_a_sealing_whose_ledger_forgets_makes_no_second_head(after):
    """Whenever that happens, among the reads of its seals."""
    world = SealedWorld()
    world.live_through_a_day()
    world.seal()
    world.late_trade("bronze_a", 5)
    for _ in range(2):
        world.begin_heal().proceed()
    slow = world.begin_seal()
    for _ in range(after):
        slow.proceed(("ledger read_seals",))
    assert not slow.dead
    world.lose_seals("ledger")
    slow.proceed()
    world.check()
    world.settle(zombies_wake=True)


@pytest.mark.parametrize("fate", [Fate.LOSE_REPLY, Fate.CRASH])
@pytest.mark.parametrize("at", ["load seals", "create seals", "append seals", "ledger record_seal", "ledger commit"])
def test_a_sealing_may_lose_any_reply_and_die_at_any_write(at, fate):
    world = SealedWorld()
    world.live_through_a_day()
    for _ in range(2):
        world.begin_heal().proceed()
    for _ in range(2):
        slow = world.begin_seal()
        slow.proceed((at,))
        if not slow.dead:
            slow.crash() if fate is Fate.CRASH else slow.go(fate)
            slow.proceed()
        world.check()
        world.late_trade("bronze_a", 5)
        for _ in range(2):
            world.begin_heal().proceed()
    world.settle(zombies_wake=True)


TestOffload = pytest.mark.search(Offload.TestCase)
TestOffload.settings = settings(
    max_examples=int(os.environ.get("K2_MODEL_EXAMPLES", "150")),
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

TestTwoDeployments = pytest.mark.search(TwoDeployments.TestCase)
TestTwoDeployments.settings = settings(
    TestOffload.settings, max_examples=int(os.environ.get("K2_MODEL_EXAMPLES", "120")) // 4
)

TestSealing = pytest.mark.search(Sealing.TestCase)
TestSealing.settings = settings(
    TestOffload.settings,
    max_examples=int(os.environ.get("K2_MODEL_EXAMPLES", "120")) // 4,
    stateful_step_count=40,
)
