"""Tables have the names in lineage that OpenLineage's own producers give them."""

from __future__ import annotations

import pytest

from k2_offload.core.lineage import DatasetName, name_in_catalog, name_of_location, name_of_source


def test_a_source_is_a_table_of_its_server():
    assert name_of_source("ch", 9440, "k2.silver") == DatasetName("clickhouse://ch:9440", "k2.silver")
    assert name_of_source("fd00::1", 9440, "k2.silver").namespace == "clickhouse://[fd00::1]:9440"


@pytest.mark.parametrize(
    ("location", "namespace", "name"),
    [
        ("s3://lake/warehouse/cold/t", "s3://lake", "warehouse/cold/t"),
        ("s3a://lake/warehouse/cold/t/", "s3://lake", "warehouse/cold/t"),
        ("gs://lake/t", "gs://lake", "t"),
        ("abfss://box@account.dfs.core.windows.net/t", "abfss://box@account.dfs.core.windows.net", "t"),
        ("s3://lake", "s3://lake", "/"),
        ("hdfs://name:8020/t/", "hdfs://name:8020", "/t"),
        ("file:///srv/ware%20house/t", "file", "/srv/ware house/t"),
        ("file:/srv/t/", "file", "/srv/t"),
        ("/srv/t", "file", "/srv/t"),
    ],
)
def test_a_cold_table_is_its_folder(location, namespace, name):
    assert name_of_location(location) == DatasetName(namespace, name)


@pytest.mark.parametrize(
    ("properties", "namespace"),
    [
        ({"type": "rest", "uri": "https://catalog:8181/"}, "https://catalog:8181"),
        ({"type": "rest", "uri": "https://me:secret@catalog/api?token=secret"}, "https://catalog/api"),
        ({"type": "sql", "uri": "postgresql://me:secret@db/x", "warehouse": "file:///srv/lake"}, "file:/srv/lake"),
        ({"type": "sql", "uri": "postgresql://me:secret@db/x", "warehouse": "s3://lake/ware/"}, "s3://lake/ware"),
    ],
)
def test_its_other_name_is_that_in_the_catalog_and_holds_no_password(properties, namespace):
    assert name_in_catalog(properties, "cold.t") == DatasetName(namespace, "cold.t")


def test_a_catalog_that_keeps_its_warehouse_to_itself_gives_no_name():
    assert name_in_catalog({"type": "sql", "uri": "postgresql://me:secret@db/x"}, "cold.t") is None
