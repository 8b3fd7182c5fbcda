"""The entry of a cold table in the real catalog of pyiceberg, with files in a folder."""

from __future__ import annotations

import pytest

from k2_offload.core.errors import UnreadableTable
from tests.unit.k2_offload.adapters.test_cold_catalog import COLUMNS, NOON, TABLE, fill

IOS = ["pyiceberg.io.pyarrow.PyArrowFileIO", "pyiceberg.io.fsspec.FsspecFileIO"]


def entry(catalog):
    return catalog.registration("trades", "cold.trades")


@pytest.mark.parametrize("io", IOS)
def test_a_dropped_table_is_found_where_it_was_and_comes_back(catalog, lake, io):
    lake.properties["py-io-impl"] = io
    assert entry(catalog).current() is None
    assert entry(catalog).find(entry(catalog).usual_location).states == ()
    catalog.create(TABLE, COLUMNS)
    fill(lake, NOON)
    fill(lake, NOON)
    before = lake.load_table("cold.trades")
    lake.drop_table("cold.trades")

    [found] = entry(catalog).find(entry(catalog).usual_location).states
    assert (found.metadata_file, found.table_uuid) == (before.metadata_location, str(before.metadata.table_uuid))
    assert (found.rows, found.watermark, found.location) == (2, None, before.location())
    entry(catalog).replace(found.metadata_file)
    assert entry(catalog).current() == found
    assert lake.load_table("cold.trades").scan().to_arrow().num_rows == 2


def test_an_older_entry_is_replaced_and_the_given_up_line_stays_in_sight(catalog, lake):
    catalog.create(TABLE, COLUMNS)
    fill(lake, NOON)
    older = entry(catalog).current()
    fill(lake, NOON)
    newest = entry(catalog).current()
    entry(catalog).replace(older.metadata_file)
    fill(lake, NOON, NOON)
    other_line = entry(catalog).current()

    found = entry(catalog).find(other_line.location).states
    assert {(each.metadata_file, each.rows) for each in found} == {
        (newest.metadata_file, 2),
        (other_line.metadata_file, 3),
    }
    assert entry(catalog).find(newest.metadata_file).states == (newest,)


def test_an_entry_that_names_a_file_that_is_gone_is_told_and_can_be_replaced(catalog, lake):
    catalog.create(TABLE, COLUMNS)
    older = entry(catalog).current()
    fill(lake, NOON)
    newest = entry(catalog).current()
    entry(catalog).replace(older.metadata_file)
    lake.load_table("cold.trades").io.delete(older.metadata_file)
    with pytest.raises(UnreadableTable, match="`k2 register trades`"):
        entry(catalog).current()
    entry(catalog).replace(newest.metadata_file)
    assert entry(catalog).current() == newest


def test_only_a_catalog_that_names_tables_itself_knows_where_a_table_would_be(catalog, lake):
    lake.properties["warehouse"] = "production"
    assert entry(catalog).usual_location is None


def test_half_of_a_metadata_file_and_a_state_without_manifests_count_as_if_they_were_not_there(catalog, lake):
    catalog.create(TABLE, COLUMNS)
    fill(lake, NOON)
    table, newest = lake.load_table("cold.trades"), entry(catalog).current()
    fill(lake, NOON)
    refused = lake.load_table("cold.trades")
    entry(catalog).replace(newest.metadata_file)
    table.io.delete(refused.current_snapshot().manifest_list)
    half = f"{table.location()}/metadata/00099-half.metadata.json"
    with table.io.new_output(half).create() as stream:
        stream.write(b'{"format-version": 2, "table-u')

    found = entry(catalog).find(newest.location)
    assert [each.metadata_file for each in found.states] == [newest.metadata_file]
    assert found.passed_over.keys() == {half, refused.metadata_location}
    for file in (half, refused.metadata_location):
        with pytest.raises(UnreadableTable):
            entry(catalog).find(file)
