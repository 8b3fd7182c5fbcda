"""Queries by what they read: the bounds of the window, half-open, on the right column of the right table."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core import queries
from k2_offload.core.splits import Split
from k2_offload.core.type_mapping import map_column
from k2_offload.core.windows import Window, to_micros

CANDLES = parse_tables(
    "tables: {candles: {layer: gold, source: k2.candles, target: cold.candles, timestamp_column: window_end, "
    "partition_column: window_start, sort_columns: [symbol, window_start], sequence_column: number}}"
)["candles"]
WINDOW = Window(datetime(2026, 3, 4, 10, tzinfo=UTC), datetime(2026, 3, 4, 11, tzinfo=UTC))
HOUR = timedelta(hours=1)
LOW, HIGH = to_micros(WINDOW.low), to_micros(WINDOW.high)
WITHIN = (
    f"k2_source.`window_end` >= fromUnixTimestamp64Micro({LOW}, 'UTC') "
    f"AND k2_source.`window_end` < fromUnixTimestamp64Micro({HIGH}, 'UTC')"
)
COLUMNS = (map_column("candles", "window_end", "DateTime64(6, 'UTC')"), map_column("candles", "n", "UInt64"))


def test_every_query_of_a_window_has_the_same_half_open_bounds():
    texts = [
        queries.rows_per_step(CANDLES, WINDOW, HOUR),
        queries.rows_per_day(CANDLES, queries.within(CANDLES, WINDOW)),
        queries.rows_per_slot(CANDLES, queries.within(CANDLES, WINDOW)),
        queries.select_split(CANDLES, COLUMNS, queries.within(CANDLES, WINDOW)),
        queries.select(CANDLES, COLUMNS, queries.within(CANDLES, WINDOW)),
    ]
    assert all(WITHIN in text and "FROM `k2`.`candles` AS k2_source WHERE" in text for text in texts)


def test_a_source_whose_rows_merge_is_read_with_final():
    merging = replace(CANDLES, final=True)
    assert queries.count(merging) == "SELECT count() FROM `k2`.`candles` AS k2_source FINAL"
    assert "AS k2_source FINAL WHERE" in queries.select_split(merging, COLUMNS, queries.within(merging, WINDOW))


def test_a_split_is_cut_on_the_partition_column_and_sorted():
    split = Split(WINDOW.low, WINDOW.high, 1)
    text = queries.of_split(queries.select_split(CANDLES, COLUMNS, queries.within(CANDLES, WINDOW)), split)
    assert f"k2_source.`window_start` >= fromUnixTimestamp64Micro({LOW}, 'UTC')" in text
    assert f"k2_source.`window_start` < fromUnixTimestamp64Micro({HIGH}, 'UTC')" in text
    assert text.endswith("ORDER BY k2_source.`symbol`, k2_source.`window_start`")


def test_all_that_has_to_be_text_is_checked_where_rows_are_read_and_nowhere_else():
    kinds = {"s": "Nullable(String)", "l": "LowCardinality(String)", "e": "Enum8('a' = 1)", "f": "FixedString(3)"}
    columns = (*COLUMNS, *(map_column("candles", name, kind) for name, kind in kinds.items()))
    within = queries.within(CANDLES, WINDOW)
    select = queries.select_split(CANDLES, columns, within)
    checked = re.findall(r"isValidUTF8\((.*?)\), 0\), 'UInt8'\), 'not valid UTF-8: `(\w+)`'\)", select)
    assert checked == [("k2_source.`s`", "s"), ("k2_source.`l`", "l"), ("CAST(k2_source.`e`, 'String')", "e")]
    assert select.startswith("SELECT if(greatest(throwIf(")
    assert "throwIf" not in queries.select_split(CANDLES, COLUMNS, within)
    assert "throwIf" not in queries.select(CANDLES, columns, queries.within(CANDLES, WINDOW))


@pytest.mark.parametrize(
    ("answer", "column"),
    [
        ("ClickHouse refused a query (code 395): DB::Exception: not valid UTF-8: `raw`: while executing 'FUNC", "raw"),
        ("java.sql.SQLException: Code: 395. DB::Exception: not valid UTF-8: `raw`: while executing", "raw"),
        ("DB::Exception: Memory limit exceeded: while executing 'throwIf(…, 'not valid UTF-8: `raw`'_String)'", None),
        ("nothing of the kind", None),
    ],
)
def test_the_column_is_read_from_what_clickhouse_says_first(answer, column):
    assert queries.column_not_text(answer) == column


def test_the_highest_sequence_is_read_where_there_is_one():
    assert "max(k2_source.`number`)" in queries.rows_per_step(CANDLES, WINDOW, HOUR)
    assert "NULL" in queries.rows_per_step(replace(CANDLES, sequence_column=None), WINDOW, HOUR)
