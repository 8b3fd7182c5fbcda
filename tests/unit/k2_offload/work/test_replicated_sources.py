"""Every plan names the replicated tables of its source: the job may ask another server than the planner did."""

from __future__ import annotations

from datetime import timedelta

import pytest

from k2_offload.work.backfill import find_left_out, plan_backfills
from k2_offload.work.reconcile import reconcile
from k2_offload.work.watermarks import find_skip, skip
from tests.model.world import LONG, World


@pytest.fixture
def world():
    world = World(LONG)
    for minutes in (300, 200, 100):
        world.trade("bronze_a", world.now - minutes * (LONG / 2400))
    return world


def window(world):
    cycle = world.cycle()
    return cycle.plan(world.tables["bronze_a"])


def heal(world):
    world.begin("bronze").proceed()
    world.trade("bronze_a", world.now - 150 * (LONG / 2400))
    tiers = world.cycle().tiers
    [found] = [found for found in reconcile(tiers, [world.tables["bronze_a"]]) if found.heals]
    return found.heals[0]


def backfill(world):
    tiers, table = world.cycle().tiers, world.tables["bronze_a"]
    skip(tiers, table, find_skip(tiers, table, world.now - 50 * (LONG / 2400)))
    [planned] = plan_backfills(tiers, find_left_out(tiers, table))
    return planned


@pytest.mark.parametrize("plan", [window, heal, backfill])
@pytest.mark.parametrize("replicated", [True, False])
def test_a_plan_names_the_replicated_tables_and_how_far_behind_they_may_be(world, plan, replicated):
    if replicated:
        world.clickhouse.replicas["k2.bronze_a"] = (False, 0)
    planned = plan(world)
    limit = timedelta(seconds=planned.longest_delay_seconds)
    assert planned.replicated == (("k2.bronze_a",) if replicated else ())
    assert limit == (max(world.tables["bronze_a"].buffer, timedelta(minutes=1)) if replicated else timedelta(0))
