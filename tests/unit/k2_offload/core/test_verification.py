"""What is compared, and how ClickHouse is told where the cold rows are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from k2_offload.core.errors import ConfigurationError
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.verification import TTL_MARGIN, Comparison, cold_table_function, window_to_verify
from k2_offload.core.windows import Window

DAY = timedelta(days=1)
times = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))
retentions = st.integers(1, 30).map(timedelta)
WINDOW = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))


@given(times, retentions, times)
def test_no_compared_row_is_near_its_end_and_no_whole_day_is_left_out(watermark, retention, now):
    window = window_to_verify(watermark, retention, now)
    assume(window is not None)
    assert window.high == watermark
    assert window.low.time() == datetime.min.time()
    assert window.low + retention - now >= TTL_MARGIN
    assert window.low - DAY + retention - now < TTL_MARGIN


@given(retentions, times)
def test_there_is_nothing_to_compare_before_the_first_window_or_after_the_ttl_took_all(retention, now):
    assert window_to_verify(FIRST_WATERMARK, retention, now) is None
    assert window_to_verify(now - retention, retention, now) is None


def test_rows_of_one_midnight_are_compared_until_the_margin_before_their_end():
    midnight = datetime(2026, 11, 14, tzinfo=UTC)
    at_the_margin = midnight + 7 * DAY - TTL_MARGIN
    watermark = midnight + 3 * DAY
    assert window_to_verify(watermark, 7 * DAY, at_the_margin) == Window(midnight, watermark)
    just_after = at_the_margin + timedelta(microseconds=1)
    assert window_to_verify(watermark, 7 * DAY, just_after) == Window(midnight + DAY, watermark)


@pytest.mark.parametrize(
    ("cold", "equal"), [((3, 7), True), ((3, 8), False), ((4, 7), False)], ids=["same", "changed", "more"]
)
def test_count_and_hash_must_both_agree(cold, equal):
    assert Comparison("t", WINDOW, 3, cold[0], 7, cold[1]).equal is equal


def test_what_could_not_be_compared_is_not_equal():
    assert Comparison("t", None).equal
    assert not Comparison("t", None, problem="the source is gone").equal


def test_a_local_table_is_pinned_to_one_metadata_file():
    reader = cold_table_function(
        "file:///lake/cold/t", "file:///lake/cold/t/metadata/00002-ab.metadata.json", "k2_lake"
    )
    assert reader == (
        "icebergLocal('/lake/cold/t', SETTINGS iceberg_metadata_file_path = 'metadata/00002-ab.metadata.json')"
    )


def test_a_table_on_s3_is_read_through_the_named_collection():
    reader = cold_table_function("s3://lake/cold/t", "s3://lake/cold/t/metadata/2-ab.metadata.json", "k2_lake")
    assert reader == (
        "icebergS3(k2_lake, filename = 'cold/t', SETTINGS iceberg_metadata_file_path = 'metadata/2-ab.metadata.json')"
    )


def test_a_quote_in_a_path_stays_in_its_literal():
    reader = cold_table_function("file:///la'ke/t", "file:///la'ke/t/metadata/1.json", "k2_lake")
    assert reader.startswith("icebergLocal('/la\\'ke/t', ")


def test_a_storage_that_clickhouse_cannot_read_is_named():
    with pytest.raises(ConfigurationError, match="gs://"):
        cold_table_function("gs://lake/t", "gs://lake/t/metadata/1.json", "k2_lake")
