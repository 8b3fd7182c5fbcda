"""What the model of backfills notices if a guard is taken away, in the shortest run that shows it.

A random search finds most of these too, in minutes each.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from k2_offload.core.backfill import find_skips
from k2_offload.core.exactly_once import PublishDecision, Stamp, adopted
from k2_offload.core.gaps import GapKind, on_record
from k2_offload.core.heal import HealStamp
from k2_offload.core.skips import GivenUp, Skips
from k2_offload.work import compare
from offload_job import backfill as filling
from tests.model.world import LONG, World

# Greenlets, whose calls a tracer mixes up; and what they run is run by other tests as well.
pytestmark = pytest.mark.no_cover

TABLE, MINUTE = "bronze_a", timedelta(minutes=1)


def skipped():
    """A table that has moved rows, has skipped some, and whose source has rows after them."""
    world = World(LONG)
    for moves in (True, False, True):
        for _ in range(6):
            world.now += MINUTE
            world.trade(TABLE, world.now)
        world.now += 7 * MINUTE
        if moves:
            world.begin("bronze").proceed()
        else:
            world.begin_skip(TABLE, 7 * MINUTE).proceed()
    world.check()
    assert world.skips(TABLE).left_out
    return world


def another_backfill_comes_first(world):
    slow = world.begin_backfill(TABLE)
    slow.proceed(("swap",))
    assert slow.next_io == "swap"
    world.begin_backfill(TABLE).proceed()
    assert not world.skips(TABLE).left_out
    slow.proceed()


def another_range_is_filled_before_it_is_staged(world):
    slow, other = world.begin_backfill(TABLE, 3), world.begin_backfill(TABLE, 3, newest_first=True)
    slow.proceed(("export",))
    other.proceed(("export",))
    left_out = world.skips(TABLE).left_out
    other.proceed(("export",))
    assert world.skips(TABLE).left_out != left_out
    slow.proceed(("export",))
    assert world.cycle().catalog.load(world.tables[TABLE]).skips.left_out == (), f"{TABLE}: it is forgotten"


def the_chain_is_cut_after_a_backfill(world):
    world.begin_backfill(TABLE).proceed()
    for _ in range(2):
        world.lakehouse.compact(f"cold.{TABLE}")
    world.lakehouse.expire(f"cold.{TABLE}", world.now + MINUTE, clear_parents=False)


def a_late_row_is_healed(world):
    head = world.head(TABLE)
    world.trade(TABLE, world.now - 38 * MINUTE)
    world.begin_heal().proceed()
    assert world.head(TABLE) != head


def a_window_follows(world):
    world.trade(TABLE, world.now)
    world.now += 60 * MINUTE
    head = world.head(TABLE)
    world.begin("bronze").proceed()
    assert world.head(TABLE) != head


def bring_whatever_is_left_out(patch):
    patch.setattr(filling, "decide_backfill", lambda *_: PublishDecision.PUBLISH)


def believe_what_was_left_out_at_staging(patch):
    """A backfill in between is forgotten by what was staged before."""
    patch.setattr(Skips, "__eq__", lambda *_: True)


def heal_what_is_left_out(patch):
    count, scope = compare.day_queries.warm_rows_per_day, compare.DayScope
    patch.setattr(compare.day_queries, "warm_rows_per_day", lambda *scoped: count(*scoped[:-1], ()))
    patch.setattr(compare, "DayScope", lambda day, below, _: scope(day, below))


def forget_what_was_filled_when_the_chain_is_cut(patch):
    for reader in ("offload_job.cold_table_writer", "k2_offload.adapters.cold_table"):
        patch.setattr(
            f"{reader}.find_skips",
            lambda head, published, _, snapshot_of: find_skips(head, published, {}, snapshot_of),
        )


def heals_do_not_pass_on_what_is_left_out(patch):
    summary = HealStamp.summary.fget
    reset = Skips().summary
    patch.setattr(HealStamp, "summary", property(lambda stamp: summary(stamp) | reset))


def windows_do_not_pass_on_what_is_left_out(patch):
    summary = Stamp.summary.fget
    reset = Skips().summary
    patch.setattr(Stamp, "summary", property(lambda stamp: summary(stamp) | reset))


GUARDS = [
    (another_backfill_comes_first, bring_whatever_is_left_out),
    (another_range_is_filled_before_it_is_staged, believe_what_was_left_out_at_staging),
    (a_late_row_is_healed, heal_what_is_left_out),
    (the_chain_is_cut_after_a_backfill, forget_what_was_filled_when_the_chain_is_cut),
    (a_late_row_is_healed, heals_do_not_pass_on_what_is_left_out),
    (a_window_follows, windows_do_not_pass_on_what_is_left_out),
]


@pytest.mark.parametrize(("meanwhile", "mutation"), GUARDS, ids=[mutation.__name__ for _, mutation in GUARDS])
def test_the_model_fails_without_a_guard(monkeypatch, meanwhile, mutation):
    world = skipped()
    happens(world, meanwhile)
    world = skipped()
    mutation(monkeypatch)
    with pytest.raises(AssertionError, match=TABLE):
        happens(world, meanwhile)


def test_a_cut_chain_is_known_by_the_branch_that_a_backfill_moves():
    world = skipped()
    the_chain_is_cut_after_a_backfill(world)
    assert world.cycle().catalog.load(world.tables[TABLE]).skips == world.skips(TABLE)


def test_what_a_rebuild_gives_up_is_on_record_once():
    world = skipped()
    tiers, table = world.cycle().tiers, world.tables[TABLE]
    cold = tiers.catalog.load(table)
    [left_out] = cold.skips.left_out
    given_up = (GivenUp(left_out.low, left_out.high, 6),)
    cold.publish_without_rows(adopted(cold.uuid, world.now), "at", given_up=given_up, ledger_id=None)
    for _ in range(2):
        world.cycle().commit(table)
    gaps = on_record(tiers.ledger.read_gaps()[TABLE], tiers.catalog.load(table).skips)
    assert [(gap.kind, gap.window, gap.rows) for gap in gaps] == [(GapKind.FEWER_ROWS, left_out, 6)]


def happens(world, meanwhile):
    meanwhile(world)
    world.check()
