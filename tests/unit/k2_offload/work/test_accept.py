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
