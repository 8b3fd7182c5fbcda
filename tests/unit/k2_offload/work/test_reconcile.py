"""What is wrong with one table stops that table's comparison alone."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest

from k2_offload.core.errors import Unreachable, UnreadableTable
from k2_offload.core.tables import LAYERS
from k2_offload.work import reconcile as comparison
from k2_offload.work.reconcile import reconcile
from tests.model.world import LONG, World

FAULTS = [
    (UnreadableTable("bronze_a", "k2_iceberg", "FileNotFoundError: 7.avro"), "bronze_a: .*7.avro"),
    (
        ValueError("invalid literal for int(): http://me:pass@lake/a?token=b\nand more"),
        r"bronze_a: .*unexpected reason \(ValueError: invalid literal for int\(\): http://…@lake/a\?…\)\. Nothing was",
    ),
]


def failing_for(monkeypatch, name, error):
    real = getattr(comparison, name)

    def step(tiers, table, *rest):
        if getattr(table, "table", table).name == "bronze_a":
            raise error
        return real(tiers, table, *rest)

    monkeypatch.setattr(comparison, name, step)


@pytest.fixture
def world():
    world = World(LONG)
    for minutes in (300, 200, 100):
        for exchange in ("bronze_a", "bronze_b"):
            world.trade(exchange, world.now - minutes * (LONG / 2400))
    for layer in LAYERS:
        world.begin(layer).proceed()
    return world


@pytest.fixture
def compare(world):
    tiers = world.cycle().tiers
    return lambda: {found.table.name: found for found in reconcile(tiers, list(world.tables.by_name.values()))}


@pytest.mark.parametrize("step", ["count_days", "compare_day"])
@pytest.mark.parametrize(("error", "words"), FAULTS, ids=lambda value: type(value).__name__)
def test_whatever_is_wrong_with_one_table_the_others_are_compared(compare, monkeypatch, step, error, words):
    failing_for(monkeypatch, step, error)
    found = compare()
    assert len(found) == 5
    assert found["bronze_b"].days
    [problem] = found.pop("bronze_a").problems
    assert re.search(words, problem)
    assert not any(each.problems for each in found.values())


def test_what_there_is_no_time_for_comes_first_the_next_time(world):
    tiers = world.cycle().tiers
    tables = list(world.tables.by_name.values())

    def compared(budget, **changes):
        found = list(reconcile(replace(tiers, **changes), tables, budget=budget))
        world.now += timedelta(minutes=1)
        return [(day.table, day.scope.day) for each in found for day in each.days], found[-1]

    clock = count()
    ticking = lambda: world.now + timedelta(seconds=next(clock))  # noqa: E731 - a second for each look
    first, last = compared(timedelta(seconds=5), now=ticking)
    every, end = compared(None)
    assert 0 < len(first) < len(every) + len(first)
    assert last.left == len(every)
    assert f"no time for {len(every)} more days, {every[0][0]} first" in last.lines[-1]
    assert (set(first) & set(every), end.left) == (set(), 0)


def test_the_oldest_comparison_comes_first(world):
    tiers = world.cycle().tiers
    tables = list(world.tables.by_name.values())

    def compared(chosen):
        found = [day.table for each in reconcile(tiers, chosen) for day in each.days]
        world.now += timedelta(minutes=1)
        return found

    assert compared(tables[-1:])
    assert compared(tables)[0] == tables[0].name
    world.now += timedelta(days=1)
    assert compared(tables)[0] == tables[-1].name


def test_what_was_healed_in_other_tables_comes_before_what_was_compared_long_ago(monkeypatch):
    world = World(timedelta(days=5))
    for hours in (24, 3, 2):
        for exchange in ("bronze_a", "bronze_b"):
            world.trade(exchange, world.now - timedelta(hours=hours))
    for layer in LAYERS:
        world.begin(layer).proceed()
    tiers, tables = world.cycle().tiers, list(world.tables.by_name.values())
    candles = [table for table in tables if table.version_column]

    def compared(chosen, days=()):
        return [(day.table, day.scope.day) for each in reconcile(tiers, chosen, days) for day in each.days]

    *_, (_, last) = compared(tables)
    world.now += timedelta(minutes=30)
    assert len(compared(candles, [last])) == len(candles)
    world.trade("bronze_a", world.now - timedelta(hours=3, minutes=30) + timedelta(seconds=1))
    trades = [table for table in tables if table not in candles]
    monkeypatch.setattr("tests.model.world.reconcile", lambda tiers, _: reconcile(tiers, trades))
    for _ in range(2):
        world.now += timedelta(minutes=30)
        world.begin_heal().proceed()
    world.now += timedelta(days=1)
    due = compared(tables)
    assert due[:2] == [(table.name, last) for table in candles]
    assert ("bronze_a", last - timedelta(days=1)) in due


def test_a_look_is_on_no_record(world):
    tiers, tables = world.cycle().tiers, list(world.tables.by_name.values())
    before = dict(world.postgres.entries)
    found = list(reconcile(tiers, tables, keep=False))
    assert found
    assert world.postgres.entries == before
    assert len(list(reconcile(tiers, tables))) == len(found), "all of it is due still"
    assert world.postgres.entries != before


def test_a_service_that_is_down_stops_the_comparison(compare, monkeypatch):
    failing_for(monkeypatch, "count_days", Unreachable("ClickHouse", "c", "gone"))
    with pytest.raises(Unreachable):
        compare()
