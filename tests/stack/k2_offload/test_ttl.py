"""The TTL of a source as ClickHouse itself has it, and the rows that it may remove before they are moved."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core.errors import InvalidSource
from k2_offload.work.holding import ttl_in_the_way
from k2_offload.work.ttl import look_at_ttl, read_kept_for, read_kept_for_now
from k2_offload.work.validate import check_source

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def _now():
    """When the test begins: the TTL removes rows by the real clock, and a session may last for an hour."""
    global NOW  # noqa: PLW0603
    NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def source(workbench):
    """Makes a table of trades with a TTL; gives the cycle and the table."""

    def make(ttl, select=None, **spec):
        table = workbench.create_trades(f"trades_{len(made)}")
        made.append(table)
        if ttl is not None:
            workbench.sql(f"ALTER TABLE {table} MODIFY TTL {ttl}")
        name = table
        if select is not None:
            name = f"{table}_view"
            workbench.sql(f"CREATE VIEW {name} AS {select.format(table=table)}")
        cycle = workbench.cycle(workbench.spec(name, **spec), now=NOW)
        return cycle, cycle.tables[name], table

    made = []
    return make


@pytest.mark.parametrize(
    ("ttl", "kept"),
    [
        ("toDateTime(at) + INTERVAL 7 DAY", 7 * DAY),
        ("toDate(at) + INTERVAL 7 DAY", 6 * DAY + timedelta(seconds=1)),
        ("toDateTime(at) + INTERVAL 1 MONTH, toDateTime(at) + INTERVAL 3 DAY DELETE WHERE sequence > 5", 3 * DAY),
        ("toDateTime(at) + INTERVAL 1 DAY RECOMPRESS CODEC(ZSTD(5))", None),
        (None, None),
    ],
    ids=["time", "date", "rules", "compression", "none"],
)
def test_how_long_rows_are_kept_is_read(workbench, source, ttl, kept):
    cycle, table, name = source(ttl)
    assert read_kept_for(cycle.tiers, table) == (f"k2.{name}", kept)
    problem = check_source(cycle.tiers, table).problem
    assert (problem is not None) == (kept is not None and kept < 7 * DAY)
    if problem is not None:
        assert f"rows are kept for 7 days (warm_retention_days), and the TTL of k2.{name} keeps some for" in problem
    if ttl and kept is not None:  # as ClickHouse counts it itself
        workbench.insert_trades(name, NOW - HOUR, 1, start_sequence=10)
        parts = f"FROM system.parts WHERE active AND database = 'k2' AND table = '{name}'"
        [(expires,)] = workbench.sql(f"SELECT toUnixTimestamp(min(delete_ttl_info_min)) {parts}")
        found = look_at_ttl(cycle.tiers, table, NOW - 2 * HOUR, NOW)
        assert (found.storage, found.oldest) == (f"k2.{name}", NOW - HOUR)
        if "WHERE" not in ttl:
            assert found.expires_at.timestamp() == expires


def test_the_ttl_of_a_column_is_found_and_nothing_that_looks_like_one(workbench, source):
    cycle, table, name = source(None)
    for column in (
        "`my TTL ` String DEFAULT concat('x TTL y\\'', ' TTL (', toString(sequence)) COMMENT ', `a` Int8 TTL at + 1' "
        "CODEC(ZSTD(3))",
        "TTL UInt64",
        "after UInt64 DEFAULT 3 + TTL + 4",
        "never UInt64 ALIAS TTL + 1",
    ):
        workbench.sql(f"ALTER TABLE {name} ADD COLUMN {column}")
    workbench.sql(f"ALTER TABLE {name} ADD CONSTRAINT some CHECK TTL < 5, ADD INDEX ttl TTL TYPE minmax")
    clickhouse = cycle.tiers.clickhouse
    assert clickhouse.column_ttls(f"k2.{name}") == {}
    workbench.sql(f"ALTER TABLE {name} MODIFY COLUMN note Nullable(String) TTL toDateTime(at) + INTERVAL 3 DAY")
    workbench.sql(f"ALTER TABLE {name} MODIFY COLUMN `my TTL ` TTL toDateTime(at) + INTERVAL 2 DAY")
    assert list(clickhouse.column_ttls(f"k2.{name}")) == ["note", "my TTL "]
    assert read_kept_for(cycle.tiers, table) == (f"k2.{name}", 2 * DAY)
    assert "keeps some for 2 days" in check_source(cycle.tiers, table).problem
    workbench.insert_trades(name, NOW - 47.5 * HOUR, 1)
    found = look_at_ttl(cycle.tiers, table, NOW - 3 * DAY, NOW)
    assert (found.storage, found.expires_at) == (f"k2.{name}", NOW + 0.5 * HOUR)
    assert read_kept_for_now(cycle.tiers, table)[1] is None, "no row goes"
    workbench.sql(ttl_in_the_way(cycle.tiers, replace(table, retention="proven")).split("`")[1])
    workbench.sql(ttl_in_the_way(cycle.tiers, replace(table, retention="proven")).split("`")[1])
    assert clickhouse.column_ttls(f"k2.{name}") == {}


def test_a_columns_ttl_that_nobody_can_tell_or_whose_column_is_not_read_changes_nothing(workbench, source):
    rows = "toDateTime(at) + INTERVAL 2 DAY"
    cycle, table, name = source(rows)
    workbench.sql(f"ALTER TABLE {name} ADD COLUMN received DateTime, MODIFY COLUMN note TTL received + INTERVAL 1 DAY")
    assert read_kept_for(cycle.tiers, table) == (f"k2.{name}", 2 * DAY)
    assert "keeps some for 2 days" in check_source(cycle.tiers, table).problem

    cycle, table, name = source(rows, "SELECT at, sequence, symbol, price FROM {table}")
    workbench.sql(f"ALTER TABLE {name} MODIFY COLUMN note TTL toDateTime(at) + INTERVAL 1 DAY")
    workbench.insert_trades(name, NOW - 23.5 * HOUR, 1)
    assert read_kept_for(cycle.tiers, table) == (f"k2.{name}", 2 * DAY)
    assert look_at_ttl(cycle.tiers, table, NOW - 3 * DAY, NOW).expires_at == NOW + 24.5 * HOUR


def test_the_ttl_behind_a_view_is_found_and_what_is_not_known_is_the_table_file(workbench, source):
    one = "SELECT at, sequence, symbol, price, note FROM (SELECT * FROM {table} WHERE price >= 0)"
    cycle, table, name = source("toDateTime(at) + INTERVAL 2 DAY", one)
    workbench.insert_trades(name, NOW - 47.5 * HOUR, 1)
    found = look_at_ttl(cycle.tiers, table, NOW - 3 * DAY, NOW)
    assert (found.storage, found.expires_at) == (f"k2.{name}", NOW + 0.5 * HOUR)

    other = workbench.create_trades("other")
    two = f"{one} UNION ALL SELECT at, sequence, symbol, price, note FROM {other}"
    cycle, table, name = source("toDateTime(at) + INTERVAL 2 DAY", two)
    for each in (name, other):
        workbench.insert_trades(each, NOW - 47.5 * HOUR, 1)
    found = look_at_ttl(cycle.tiers, table, NOW - 3 * DAY, NOW)
    assert (found.storage, found.expires_at) == (None, NOW - 47.5 * HOUR + 7 * DAY)
    assert read_kept_for(cycle.tiers, table) == (None, None)


def test_a_ttl_on_another_column_is_known_from_the_rows_alone(workbench, source):
    cycle, table, name = source("toDateTime(sequence) + INTERVAL 1 DAY")
    workbench.insert_trades(name, NOW - 2 * HOUR, 1, start_sequence=int((NOW - 23 * HOUR).timestamp()))
    assert read_kept_for(cycle.tiers, table) == (None, None)
    assert look_at_ttl(cycle.tiers, table, NOW - DAY, NOW).expires_at == NOW + HOUR


def test_nothing_is_asked_or_told_of_rows_that_are_young(workbench, source):
    cycle, table, name = source("toDateTime(at) + INTERVAL 7 DAY")
    workbench.insert_trades(name, NOW - 0.5 * HOUR, 1)
    assert look_at_ttl(cycle.tiers, table, NOW - DAY, NOW) is None


def test_candles_have_the_ttl_of_their_storage(workbench):
    trade = [(NOW, "test", "TTL/TEST", 1, 1, "buy", "1")]
    columns = "exchange_timestamp, exchange, symbol, price, quantity, side, trade_id"
    workbench.sql(f"INSERT INTO new_trades ({columns}) VALUES", trade)
    candles = {"timestamp_column": "window_end", "partition_column": "window_start"}
    try:
        for name in ("ohlcv_1m", "ohlcv_1d"):
            spec = workbench.spec(name, **candles, sequence_column=None, sort_columns=None)
            cycle = workbench.cycle(spec)
            assert read_kept_for(cycle.tiers, cycle.tables[name]) == ("k2.candles", 7 * DAY)
    finally:
        for name in ("silver_trades", "candles"):
            workbench.sql(f"ALTER TABLE {name} DELETE WHERE exchange = 'test' SETTINGS mutations_sync = 2")


def test_the_storage_behind_views_is_known_while_it_is_empty(workbench, source):
    """ClickHouse's plan does not name a table without parts."""
    nested = "SELECT at, sequence, symbol, price, note FROM (SELECT * FROM k2.{table}_inner WHERE price >= 0)"
    cycle, table, storage = source("toDateTime(at) + INTERVAL 2 DAY", "SELECT * FROM {table}")
    clickhouse = cycle.tiers.clickhouse
    workbench.sql(f"CREATE VIEW {storage}_inner AS SELECT * FROM {storage}")
    workbench.sql(f"CREATE OR REPLACE VIEW {table.source} AS {nested.format(table=storage)}")
    for rows in (0, 1):
        if rows:
            workbench.insert_trades(storage, NOW - HOUR, rows)
        assert clickhouse.storage(table).name == f"k2.{storage}"
        assert clickhouse.read_by(table) == {f"k2.{storage}"}
    other = workbench.create_trades("empty")
    union = f"CREATE OR REPLACE VIEW {table.source} AS SELECT * FROM {storage} UNION ALL SELECT * FROM {other}"
    workbench.sql(union)
    assert clickhouse.storage(table) is None
    assert clickhouse.read_by(table) == {f"k2.{storage}", f"k2.{other}"}
    workbench.sql(f"{union} UNION ALL SELECT * FROM merge('k2', '^{other}$')")
    with pytest.raises(InvalidSource):
        clickhouse.read_by(table)
