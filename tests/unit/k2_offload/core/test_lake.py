"""How ClickHouse is told where the cold tier's files are."""

from __future__ import annotations

import pytest

from k2_offload.core.errors import ConfigurationError
from k2_offload.core.lake import iceberg_table, parquet_file
from k2_offload.core.sql import fill, placeholder


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        ("t/data/at_day=2026-03-04/ab-0-1.parquet", "t/data/at_day=2026-03-04/ab-0-1.parquet"),
        ("a%20b.parquet", "a%2520b.parquet"),
        ("a b.parquet", "a%20b.parquet"),
        ("ä's+.parquet", "%C3%A4%27s%2B.parquet"),
    ],
)
def test_a_key_on_s3_is_taken_as_it_is_and_clickhouse_is_told_it_encoded(key, encoded):
    assert parquet_file(f"s3://lake/cold/{key}", "k2_lake") == (
        f"s3(k2_lake, filename = 'cold/{encoded}', format = 'Parquet')"
    )
    assert iceberg_table(f"s3://lake/cold/{key}", f"s3://lake/cold/{key}/metadata/7%20.json", "k2_lake") == (
        f"icebergS3(k2_lake, filename = 'cold/{encoded}', SETTINGS iceberg_metadata_file_path = 'metadata/7%20.json')"
    )


def test_a_local_file_is_written_by_its_path():
    assert parquet_file("file:///la'ke/a.parquet", "k2_lake") == "file('/la\\'ke/a.parquet', 'Parquet')"


def test_a_storage_that_clickhouse_cannot_write_is_named_with_the_way_out():
    with pytest.raises(ConfigurationError, match=r"gs://.*transport: jdbc"):
        parquet_file("gs://lake/a.parquet", "k2_lake")


def test_a_local_table_is_pinned_to_one_metadata_file():
    reader = iceberg_table("file:///lake/cold/t", "file:///lake/cold/t/metadata/00002-ab.metadata.json", "k2_lake")
    assert reader == (
        "icebergLocal('/lake/cold/t', SETTINGS iceberg_metadata_file_path = 'metadata/00002-ab.metadata.json')"
    )


@pytest.mark.parametrize("store", ["s3://lake/cold/t", "s3a://lake/cold/t", "file:///lake/cold/t", "/lake/cold/t"])
def test_a_placeholder_in_a_files_name_can_be_filled(store):
    written = parquet_file(f"{store}/data/at_day=2026-03-04/a-{placeholder('try')}.parquet", "k2_lake")
    assert "t/data/at_day=2026-03-04/a-7.parquet" in fill(written, **{"try": 7})


def test_a_table_on_s3_is_read_through_the_named_collection():
    reader = iceberg_table("s3://lake/cold/t", "s3://lake/cold/t/metadata/2-ab.metadata.json", "k2_lake")
    assert reader == (
        "icebergS3(k2_lake, filename = 'cold/t', SETTINGS iceberg_metadata_file_path = 'metadata/2-ab.metadata.json')"
    )


def test_a_quote_in_a_path_stays_in_its_literal():
    reader = iceberg_table("file:///la'ke/t", "file:///la'ke/t/metadata/1.json", "k2_lake")
    assert reader.startswith("icebergLocal('/la\\'ke/t', ")


def test_a_storage_that_clickhouse_cannot_read_is_named():
    with pytest.raises(ConfigurationError, match="gs://"):
        iceberg_table("gs://lake/t", "gs://lake/t/metadata/1.json", "k2_lake")
