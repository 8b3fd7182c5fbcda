"""What a person is shown before accepting it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from k2_offload.core.errors import ReplicaBehind, StaleWindow
from k2_offload.work.accept import accept_missed, find_missed
from tests.model.world import World


def test_rows_that_expire_after_they_were_published_are_not_missed_though_the_ledger_does_not_know_yet():
    world = World()
    for _ in range(20):
        world.now += timedelta(minutes=1)
        world.trade("bronze_a", world.now)
    run = world.begin("bronze")
    while world.head("bronze_a") is None:
        run.go()
    run.crash()
    assert world.postgres.entries["bronze_a"].open_windows
    world.now += timedelta(hours=3)
    world.expire_warm_rows()
    tiers = world.cycle().tiers
    assert [missed.gap.kind for missed in find_missed(tiers, tiers.tables["bronze_a"])] == ["expired"]


def test_a_look_adds_no_row_to_the_ledger():
    world = World()
    tiers = world.cycle().tiers
    assert find_missed(tiers, tiers.tables["bronze_a"]) == []
    assert world.postgres.entries == {}
    assert world.postgres.locks == {}


def test_nothing_can_be_accepted_by_what_a_stuck_replica_shows():
    world = World()
    world.trade("bronze_a", world.now)
    world.clickhouse.replicas["k2.bronze_a"] = (True, 0)
    tiers = world.cycle().tiers
    with pytest.raises(ReplicaBehind, match=r"bronze_a: on server simulated.*read-only"):
        find_missed(tiers, tiers.tables["bronze_a"])


@pytest.mark.parametrize("gone", [1, 3])
def test_what_has_changed_since_it_was_shown_is_not_accepted(gone):
    world = World()
    for _ in range(20):
        world.now += timedelta(minutes=1)
        world.trade("bronze_a", world.now)
    world.begin("bronze").proceed(("export",))
    stored, tiers = world.clickhouse.tables["bronze_a"], world.cycle().tiers
    before = dict(stored)
    for trade_id in list(before)[:2]:
        del stored[trade_id]
    missed = find_missed(tiers, tiers.tables["bronze_a"])
    assert [(each.gap.kind, each.gap.rows) for each in missed] == [("fewer rows", 2)]
    stored.clear()
    stored.update(list(before.items())[gone:])
    with pytest.raises(StaleWindow, match=r"were shown\. Nothing was put on record"):
        accept_missed(tiers, tiers.tables["bronze_a"], missed)
    assert world.postgres.entries["bronze_a"].gaps == ()


@pytest.mark.parametrize("moved", [False, True])
def test_what_a_colleague_has_accepted_meanwhile_is_not_accepted_again(moved):
    world = World()
    for _ in range(20):
        world.now += timedelta(minutes=1)
        world.trade("bronze_a", world.now)
    world.begin("bronze").proceed()
    world.now += timedelta(hours=3)
    tiers = world.cycle().tiers
    table = tiers.tables["bronze_a"]
    missed = find_missed(tiers, table)
    assert [each.gap.kind for each in missed] == ["expired"]
    world.now += timedelta(minutes=5)
    accept_missed(tiers, table, find_missed(tiers, table))
    if moved:
        for _ in range(10):
            world.now += timedelta(minutes=1)
            world.trade("bronze_a", world.now)
        world.begin("bronze").proceed()
        assert world.watermark("bronze_a") > missed[0].gap.window.high
    before = world.postgres.entries["bronze_a"]
    with pytest.raises(StaleWindow, match=r"does not begin at .* any more.*Look again: `k2 accept bronze_a`"):
        accept_missed(tiers, table, missed)
    after = world.postgres.entries["bronze_a"]
    assert (after.gaps, after.row.cleared_until) == (before.gaps, before.row.cleared_until)
