"""The real plan, move and commit against simulated services, in any order and with anything going wrong.

First what the model has found, each as short as it became.
"""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings

from tests.model.machine import Offload
from tests.model.world import LAYERS, World

# Greenlets, whose calls a tracer mixes up; and what they run is run by other tests as well.
pytestmark = pytest.mark.no_cover

MINUTE = timedelta(minutes=1)


def trade(world, minutes, *exchanges):
    for _ in range(minutes):
        world.now += MINUTE
        for exchange in exchanges:
            world.trade(exchange, world.now)


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


TestOffload = Offload.TestCase
TestOffload.settings = settings(
    max_examples=int(os.environ.get("K2_MODEL_EXAMPLES", "150")),
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
