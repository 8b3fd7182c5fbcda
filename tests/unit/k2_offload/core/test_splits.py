"""Laws of splitting: every row is in one file, and files are neither too large nor many."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core import queries
from k2_offload.core.splits import SLOT, split_days
from k2_offload.core.type_mapping import map_column
from k2_offload.core.windows import TICK, Window, from_micros, to_micros

MIDNIGHT = datetime(2026, 3, 5, tzinfo=UTC)
TABLES = parse_tables(
    "tables: {t: {layer: gold, source: k2.t, target: cold.t, timestamp_column: ended, partition_column: started}}"
)

# Of the partition column: whole slots and what lies just before and after them, over three days.
partition_times = st.lists(
    st.builds(
        lambda slot, micros: MIDNIGHT + slot * SLOT + micros * TICK,
        st.integers(-288, 575),
        st.integers(-1, 1) | st.just(7),
    ),
    max_size=60,
)


def count_by_slot(times):
    micros = SLOT // TICK
    return Counter(from_micros(to_micros(time) // micros * micros) for time in times)


@given(partition_times, st.integers(1, 20))
def test_every_row_is_in_one_split_of_its_own_day(times, max_file_rows):
    splits = split_days(count_by_slot(times), max_file_rows)
    for time in times:
        [split] = [split for split in splits if split.low <= time < split.high]
        assert split.day == time.date()
    for split in splits:
        assert split.rows == sum(split.low <= time < split.high for time in times) > 0


@given(
    partition_times,
    st.integers(1, 20),
    st.datetimes(datetime(2026, 3, 4), datetime(2026, 3, 6, 23, 59), timezones=st.just(UTC)),
)
def test_a_row_that_comes_after_the_count_is_in_one_split_too(times, max_file_rows, late):
    splits = split_days(count_by_slot(times), max_file_rows)
    counted_days = {time.date() for time in times}
    assert sum(split.low <= late < split.high for split in splits) == (late.date() in counted_days)


@given(partition_times, st.integers(1, 20))
def test_files_are_no_larger_than_they_may_be_and_one_where_one_will_do(times, max_file_rows):
    slots = count_by_slot(times)
    for split in (splits := split_days(slots, max_file_rows)):
        counted = [rows for start, rows in slots.items() if split.low <= start < split.high]
        assert split.rows <= max_file_rows or len(counted) == 1
    for day, rows in Counter(time.date() for time in times).items():
        files = sum(split.day == day for split in splits)
        assert (files == 1) <= (rows <= max_file_rows or len({start for start in slots if start.date() == day}) == 1)
        assert files == 1 or rows > max_file_rows


def test_files_of_a_day_are_about_equal():
    even = {MIDNIGHT + number * SLOT: 1000 for number in range(288)}
    assert [split.rows for split in split_days(even, 280_000)] == [144_000, 144_000]
    assert [split.high - split.low for split in split_days(even, 72_000)] == [timedelta(hours=6)] * 4


@given(partition_times, st.integers(1, 20))
def test_the_query_of_a_split_asks_for_its_partition_times_within_the_window(times, max_file_rows):
    window = Window(MIDNIGHT, MIDNIGHT + timedelta(hours=1))
    columns = [map_column("t", "started", "DateTime64(6, 'UTC')")]
    select = queries.select_split(TABLES["t"], columns, queries.within(TABLES["t"], window))
    for split in split_days(count_by_slot(times), max_file_rows):
        bounds = re.findall(
            r"k2_source\.`(\w+)` (>=|<) fromUnixTimestamp64Micro\((\d+), 'UTC'\)", queries.of_split(select, split)
        )
        assert [(column, operator, from_micros(int(micros))) for column, operator, micros in bounds] == [
            ("ended", ">=", window.low),
            ("ended", "<", window.high),
            ("started", ">=", split.low),
            ("started", "<", split.high),
        ]
