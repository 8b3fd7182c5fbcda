"""What waits for another table says for which, where a person looks: in the log of ``plan`` and in ``k2 status``."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.ledger_records import TableRecord
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.errors import UnreadableTable
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.lag import LAG_TARGET
from k2_offload.core.skips import Skips
from k2_offload.core.windows import TICK
from k2_offload.work import status
from k2_offload.work.notes import explain
from k2_offload.work.status import find_holder, next_high, read_status
from tests.model.world import TABLES, World


def holder_of(world, name):
    cycle = world.cycle()
    table = cycle.tables[name]
    last_row = cycle.tiers.clickhouse.newest_row(table, world.watermark(name), before=world.now + table.future + TICK)
    return find_holder(cycle.tiers, table, next_high(table, last_row, world.now), world.now, {})


def half_an_hour_of_trades():
    """A world in which nothing was moved yet."""
    world = World()
    for _ in range(30):
        world.now += timedelta(minutes=1)
        for bronze in ("bronze_a", "bronze_b"):
            world.trade(bronze, world.now)
    return world


def test_a_table_at_its_first_watermark_holds_back_what_is_made_of_it_by_name(caplog):
    world = half_an_hour_of_trades()
    cycle = world.cycle()
    cycle.plan(cycle.tables["bronze_a"])
    with caplog.at_level(logging.INFO):
        assert cycle.plan(cycle.tables["silver"]) is None
    [line] = [record.getMessage() for record in caplog.records if record.getMessage().startswith("silver")]
    assert line == "silver: held back at 2000-01-01T00:00:00.000000Z by bronze_a"
    holder = holder_of(world, "silver")
    assert (holder.table, holder.watermark) == ("bronze_a", FIRST_WATERMARK)
    assert holder_of(world, "bronze_a") is None


def test_what_is_as_far_as_the_last_cycle_is_not_held_back():
    world = half_an_hour_of_trades()
    world.settle(zombies_wake=False)
    assert world.watermark("silver") > FIRST_WATERMARK
    assert holder_of(world, "silver") is None


def test_a_look_reads_each_table_once_that_others_are_made_from():
    layers = {"b": "bronze", "s": "silver"}
    names = {f"{name}{number}": layer for name, layer in layers.items() for number in range(10)}
    tables = parse_tables(
        "tables:\n"
        + "".join(
            f"  {name}: {{layer: {layer}, source: k2.{name}, target: cold.{name}, timestamp_column: at}}\n"
            for name, layer in names.items()
        )
    )
    loaded = Counter()
    now = datetime(2026, 3, 4, tzinfo=UTC)
    tiers = SimpleNamespace(
        tables=tables,
        catalog=SimpleNamespace(load=lambda table: loaded.update([table.name])),
        clickhouse=SimpleNamespace(newest_row=lambda *_, **__: now),
    )
    below = {}
    for table in tables.by_name.values():
        holder = find_holder(tiers, table, next_high(table, now, now), now, below)
        assert (holder is None) == (table.layer == "bronze")
    assert loaded == {f"b{number}": 1 for number in range(10)}


def test_what_cannot_be_read_below_leaves_a_table_readable_and_is_named(monkeypatch):
    world = half_an_hour_of_trades()
    world.settle(zombies_wake=False)
    cycle, moved = world.cycle(), world.watermark("silver")
    load, tried = cycle.tiers.catalog.load, Counter()

    def load_all_but_one(table):
        tried.update([table.name])
        if table.name == "bronze_a":
            raise UnreadableTable(table.name, "k2_iceberg", "gone")
        return load(table)

    cycle.tiers.catalog.load = load_all_but_one
    cycle.tiers.clickhouse.oldest_row = lambda *_, **__: None
    for simulated_nowhere in ("read_metadata", "read_time_left", "_refusal"):
        monkeypatch.setattr(status, simulated_nowhere, lambda *_: None)
    monkeypatch.setattr(ColdTable, "total_rows", 30)
    below = {}
    for name in ("silver", "silver"):
        found = read_status(cycle.tiers, cycle.tables[name], None, counts=False, below=below)
        assert (found.problem, found.watermark, list(found.unreadable_below)) == (None, moved, ["bronze_a"])
        assert found.cold_rows == 30
        said = "what it is made from cannot be read: bronze_a. No new window of it begins until it can."
        assert said in explain(found, world.now, "k2_offload_silver", None, LAG_TARGET)
    assert tried["bronze_a"] == 1, "another table made from it waits for it again"
    with pytest.raises(UnreadableTable):
        cycle.plan(cycle.tables["silver"])


def test_the_last_rows_of_a_feed_that_may_still_send_wait_for_silence_and_no_scheduler_is_blamed(monkeypatch):
    now, table = datetime(2026, 3, 4, tzinfo=UTC), TABLES["bronze_a"]
    last = now - timedelta(minutes=90)
    watermark = last - table.out_of_order
    clickhouse = SimpleNamespace(
        columns=lambda _: (),
        now=lambda: now,
        newest_row=lambda *_, **__: last,
        oldest_row=lambda *_, **__: last,
    )
    cold = SimpleNamespace(published=True, total_rows=30, skips=Skips())
    tiers = SimpleNamespace(load_cold=lambda _: cold, clickhouse=clickhouse, now=lambda: now)
    monkeypatch.setattr(status, "watermark_of", lambda _: watermark)
    for not_asked in ("read_metadata", "read_time_left", "_refusal"):
        monkeypatch.setattr(status, not_asked, lambda *_: None)

    def says(**changes):
        found = read_status(tiers, replace(table, **changes), None, counts=False)
        assert (found.problem, found.lag) == (None, timedelta(minutes=90))
        return explain(replace(found, silence=None), now, "k2_offload_bronze", None, LAG_TARGET)

    assert says(idle_after_seconds=7200) == [
        "its last rows wait until the feed has been silent for longer than `idle_after_seconds`."
    ]
    assert "is Airflow's scheduler up?" in says(idle_after_seconds=3600)[0]
    assert "is Airflow's scheduler up?" in says(idle_after_seconds=7200, out_of_order_seconds=9)[0]


@pytest.mark.parametrize("watermark", [datetime(2026, 3, 1, tzinfo=UTC), FIRST_WATERMARK, None])
def test_a_table_that_is_unreadable_says_what_waits_as_far_as_the_ledger_knows(watermark):
    table, now = TABLES["bronze_a"], datetime(2026, 3, 4, tzinfo=UTC)
    oldest = watermark and max(watermark, now - timedelta(days=2))

    def load(_):
        raise UnreadableTable(table.name, "k2_iceberg", "gone")

    clickhouse = SimpleNamespace(oldest_row=lambda _, since, before: oldest, storage=lambda _: None)  # noqa: ARG005
    tiers = SimpleNamespace(load_cold=load, clickhouse=clickhouse, now=lambda: now)
    found = read_status(tiers, table, TableRecord(table.name, watermark, "failed", *[None] * 8), counts=False)
    assert "gone" in found.problem
    if watermark is None:
        assert (found.lag, found.expiry) == (None, None)
    else:
        assert (found.lag, found.expiry.oldest) == (timedelta(days=2), oldest)


def test_lag_is_told_by_the_clock_that_is_not_behind():
    world = World()
    traded = world.now
    world.trade("bronze_a", traded)
    world.now += timedelta(hours=2)
    for clock_off in (timedelta(0), -timedelta(hours=2)):
        cycle = world.cycle(clock_off)
        cycle.tiers.clickhouse.oldest_row = lambda *_, before: traded if traded < before else None
        found = read_status(cycle.tiers, cycle.tables["bronze_a"], None, counts=False)
        assert found.problem is None
        assert found.lag == timedelta(hours=2)
