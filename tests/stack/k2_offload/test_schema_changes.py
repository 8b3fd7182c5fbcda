"""The source's columns change: the cold table follows or stops, and old files stay readable, on the real stack."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core.day_comparison import Verdict
from k2_offload.core.errors import InvalidSource, StaleWindow, Unreachable
from k2_offload.core.fault_points import FaultPoint, arm
from k2_offload.core.transports import TRANSPORTS
from k2_offload.work.compare import compare_day, count_days
from k2_offload.work.reconcile import plan_heal, reconcile
from k2_offload.work.schema import apply, read_schema, stop_filling
from k2_offload.work.validate import check_source

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=8)


def moved_table(workbench, suffix="trades", **changes):
    """A table whose first 100 rows, from noon on, are cold; and its cycle."""
    table = workbench.create_trades(suffix)
    cycle = workbench.cycle(workbench.spec(table, **changes), now=LATER)
    workbench.insert_trades(table, NOON, 100)
    workbench.move(cycle, table)
    return table, cycle


def alter(workbench, table, change):
    workbench.sql(f"ALTER TABLE {table} {change} SETTINGS mutations_sync = 2")


def insert_more(workbench, table, hours=1, count=100):
    workbench.insert_trades(table, NOON + timedelta(hours=hours), count, start_sequence=1000 * hours)


def day(cycle, table):
    return compare_day(cycle.tiers, count_days(cycle.tiers, cycle.tables[table]), NOON.date())


def values(workbench, table, column):
    """A cold column's values, in the order of the sequence."""
    rows = workbench.cold_table(table).scan().to_arrow().sort_by("sequence")
    return rows.column(column).to_pylist()


def in_cold_order(workbench, table):
    """The source's rows as a multiset, with the cold table's columns."""
    names = ", ".join(workbench.cold_table(table).schema().column_names)
    return Counter(workbench.sql(f"SELECT {names} FROM {table}"))


def test_a_new_column_is_cold_from_the_next_window_on_and_old_rows_are_null(workbench):
    table, cycle = moved_table(workbench)
    alter(workbench, table, "ADD COLUMN venue LowCardinality(String) DEFAULT 'old' AFTER at, ADD COLUMN fast Bool")
    assert day(cycle, table).verdict is Verdict.EQUAL, "the cold table has not followed yet"
    insert_more(workbench, table)
    workbench.sql(f"ALTER TABLE {table} UPDATE venue = 'new' WHERE sequence >= 1000 SETTINGS mutations_sync = 2")
    workbench.move(cycle, table)
    assert values(workbench, table, "venue") == [None] * 100 + ["new"] * 100
    assert values(workbench, table, "fast") == [None] * 100 + [False] * 100
    assert day(cycle, table).verdict is Verdict.EQUAL, "a DEFAULT of old rows is no difference"

    alter(workbench, table, "UPDATE venue = 'other' WHERE sequence = 1000")
    assert (day(cycle, table).late_rows, day(cycle, table).gone_rows) == (1, 1), "of new rows, it is compared"
    alter(workbench, table, "UPDATE venue = 'new' WHERE sequence = 1000")
    workbench.insert_trades(table, NOON - timedelta(hours=1), 3, start_sequence=9000)
    days = count_days(cycle.tiers, cycle.tables[table])
    found = compare_day(cycle.tiers, days, NOON.date())
    assert (found.verdict, found.late_rows) == (Verdict.LATE_ROWS, 3)
    workbench.publish(plan_heal(days, found))
    assert day(cycle, table).verdict is Verdict.EQUAL
    assert workbench.cold_rows(table) == in_cold_order(workbench, table), "the heal brought what ClickHouse says"


def test_a_schema_commit_before_any_window_of_it_is_compared_and_healed(workbench):
    table, cycle = moved_table(workbench)
    alter(workbench, table, "ADD COLUMN venue String DEFAULT 'old'")
    assert [str(change) for change in apply(cycle.tiers, cycle.tables[table])] == ["add venue (string)"]
    assert apply(cycle.tiers, cycle.tables[table]) == []
    assert day(cycle, table).verdict is Verdict.EQUAL
    workbench.insert_trades(table, NOON - timedelta(hours=1), 2, start_sequence=9000)
    [found] = list(reconcile(cycle.tiers, [cycle.tables[table]], [NOON.date()]))
    workbench.publish(*found.heals)
    assert day(cycle, table).verdict is Verdict.EQUAL
    assert values(workbench, table, "venue") == ["old"] * 102, "a heal brings what ClickHouse says"
