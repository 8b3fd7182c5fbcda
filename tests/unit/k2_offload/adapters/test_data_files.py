"""Files of a real Iceberg table in a folder, whose rows are not what its metadata says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.adapters.data_files import FaultyFile, equal_keys, read_file
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.data_files import find_faults
from k2_offload.core.errors import Unreachable
from k2_offload.core.type_mapping import map_column

TABLE = parse_tables("tables: {trades: {layer: bronze, source: k2.trades, target: cold.trades, timestamp_column: at}}")[
    "trades"
]
COLUMNS = (map_column("trades", "at", "DateTime64(6, 'UTC')"), map_column("trades", "number", "Int64"))
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def write(path, first):
    """A file as ClickHouse writes it, without field ids; with other times it has the same size."""
    import pyarrow as pa
    from pyarrow import parquet

    fields = [pa.field("at", pa.timestamp("us", "UTC"), False), pa.field("number", pa.int64(), False)]
    rows = pa.table([[first, first + HOUR], [1, 1]], schema=pa.schema(fields))
    parquet.write_table(rows, path, compression="none", use_dictionary=False, coerce_timestamps="us")


@pytest.fixture
def cold(lake, catalog, tmp_path):
    """A cold table with one such file."""
    catalog.create(TABLE, COLUMNS)
    write(tmp_path / "1.parquet", NOON)
    lake.load_table("cold.trades").add_files([(tmp_path / "1.parquet").as_uri()])
    return catalog.load(TABLE)


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (NOON, []),
        (NOON + HOUR, ["so that readers leave some of them out"]),
        (NOON + 12 * HOUR, ["registered in the partition 2026-03-04"]),
        (NOON - 13 * HOUR, ["registered in the partition 2026-03-04"]),
    ],
)
def test_times_that_are_not_where_readers_look_are_found(cold, tmp_path, first, words):
    [file] = cold.registered_files(["at"], "at")
    assert (file.day, file.rows) == (NOON.date(), 2)
    write(tmp_path / "1.parquet", first)
    content, _ = read_file(cold, file, ["at"])
    found = list(find_faults(file, content, "at"))
    assert [word in fault for fault, word in zip(found, words, strict=True)] == [True] * len(words)


def test_equal_keys_are_counted(cold):
    [file] = cold.registered_files(["at"], "at")
    _, keys = read_file(cold, file, ["at"], ["number"])
    assert equal_keys([keys]) == (1, "number = 1")
    _, keys = read_file(cold, file, ["at"], ["at", "number"])
    assert equal_keys([keys]) == (0, None)
    assert equal_keys([keys, keys])[0] == 2


def test_a_storage_that_is_away_is_no_fault_of_a_file(cold, monkeypatch):
    [file] = cold.registered_files(["at"], "at")

    def refuse(_):
        raise ConnectionError("connection refused")

    with pytest.raises(FaultyFile, match="only Parquet can be checked"):
        read_file(cold, replace(file, file_format="ORC"), ["at"])
    monkeypatch.setattr(type(cold.io), "new_input", lambda *_: refuse(None))
    with pytest.raises(Unreachable):
        read_file(cold, file, ["at"])
