"""Columns may have any name that ClickHouse allows: it is the same in the cold table, and nothing but a name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core.day_comparison import Verdict
from k2_offload.core.errors import InvalidSource
from k2_offload.core.sql import quote
from k2_offload.work.reconcile import reconcile
from k2_offload.work.tiers import WORKER

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
NAMES = ["a`b", "c'; DROP TABLE x; --", "d\\e", "f g", "h.i", "Größe", "{try}", '"j"', "k%s"]
NAMES += ["source", "cold", "size", "null", "size0", "abc", "ABC"]  # some are parts of a column of their type


@pytest.mark.parametrize("transport", ["export", "jdbc"])
def test_columns_of_odd_names_are_moved_under_them(workbench, transport):
    table = workbench.create_trades(extra="".join(f", {quote(name)} Nullable(String)" for name in NAMES))
    columns = ", ".join(quote(name) for name in NAMES)
    values = ", ".join(f"'{number}'" for number in range(len(NAMES)))
    workbench.sql(
        f"INSERT INTO {table} (at, sequence, symbol, price, {columns}) "
        f"SELECT '{NOON:%Y-%m-%d %H:%M:%S}', 1, 's', 1, {values}"
    )
    cycle = workbench.cycle(workbench.spec(table, transport=transport), now=NOON + timedelta(hours=20))
    workbench.move(cycle, table)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)
    assert [field.name for field in workbench.cold_table(table).schema().fields][-len(NAMES) :] == NAMES


@pytest.mark.parametrize("reader", ["clickhouse", WORKER])
def test_a_table_of_many_columns_is_moved_and_compared(workbench, reader):
    """ClickHouse refuses what is nested a thousand times."""
    kinds = ["UInt64", "Nullable(Float64)", "String", "LowCardinality(String)"]
    columns = {f"c{number}": kinds[number % len(kinds)] for number in range(600)}
    extra = "".join(f", {name} {kind}" for name, kind in columns.items())
    table = workbench.create_trades(extra=extra)
    workbench.insert_trades(table, NOON, 3)
    cycle = workbench.cycle(workbench.spec(table), now=NOON + timedelta(hours=1))
    workbench.move(cycle, table)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)
    tiers = replace(cycle.tiers, cold_reader=reader)
    [found] = reconcile(tiers, [cycle.tables[table]], [NOON.date()])
    assert [day.verdict for day in found.days] == [Verdict.EQUAL]
    workbench.sql(f"ALTER TABLE {table} UPDATE c599 = 'other' WHERE sequence = 1 SETTINGS mutations_sync = 2")
    [found] = reconcile(tiers, [cycle.tables[table]], [NOON.date()])
    assert [day.verdict for day in found.days] == [Verdict.CHANGED_ROWS]


def test_a_column_with_a_name_of_this_package_s_queries_is_refused(workbench):
    table = workbench.create_trades(extra=", k2_hash UInt64")
    workbench.insert_trades(table, NOON, 3)
    cycle = workbench.cycle(workbench.spec(table), now=NOON + timedelta(hours=1))
    with pytest.raises(InvalidSource, match="has a column 'k2_hash', and names that begin with k2_ are"):
        workbench.move(cycle, table)
