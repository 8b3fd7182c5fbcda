"""Reads a cold table's data files one by one, through the catalog's own access to the storage, without ClickHouse."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.core.data_files import FileContent, Range, RegisteredFile
from k2_offload.core.errors import OffloadError, UnreadableTable
from k2_offload.core.text import first_line

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 1 << 16


class FaultyFile(OffloadError):
    """One file cannot be read; its message goes on after the file's name."""


def read_file(
    cold: ColdTable, file: RegisteredFile, times: Collection[str], keys: Collection[str] = ()
) -> tuple[FileContent, pa.Table | None]:
    """Read all columns of all rows, some at a time.

    :param times: the columns of times whose ranges are to be told
    :param keys: columns to keep
    :returns: what was found, and the columns to keep
    :raises FaultyFile: if the file is missing, truncated or broken
    :raises Unreachable: if the storage does not answer
    """
    _check_size(cold, file)
    if file.file_format != "PARQUET":
        raise FaultyFile(f"is {file.file_format}, and only Parquet can be checked")
    try:
        return _read(cold, file, times, keys)
    except Exception as error:
        _check_size(cold, file)  # whether the storage still answers
        raise FaultyFile(f"cannot be read: {first_line(error)}".rstrip(".: ")) from error


def _check_size(cold: ColdTable, file: RegisteredFile) -> None:
    try:
        with cold.told():
            found = len(cold.io.new_input(file.path))
    except UnreadableTable as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        reason = f"{type(error.__cause__).__name__}: {error.__cause__}"
        raise FaultyFile("is missing" if missing else f"cannot be read: {reason}".rstrip(".")) from error
    if found != file.size_bytes:
        how = "is truncated: it" if found < file.size_bytes else "is not the file that was registered: it"
        raise FaultyFile(f"{how} has {found:,} bytes, and was registered with {file.size_bytes:,}")


def _read(
    cold: ColdTable, file: RegisteredFile, times: Collection[str], keys: Collection[str]
) -> tuple[FileContent, pa.Table | None]:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import parquet

    rows, ranges, kept = 0, dict[str, Range](), []
    with (
        cold.io.new_input(file.path).open() as stream,
        parquet.ParquetFile(stream, page_checksum_verification=True) as opened,
    ):
        names = _names(opened.schema_arrow, cold.field_ids)
        missing = [column for column in (*times, *keys) if names[column] not in opened.schema_arrow.names]
        if missing:
            raise KeyError(f"no column {', '.join(missing)}")
        for batch in opened.iter_batches(_BATCH_ROWS):
            rows += batch.num_rows
            for column in times:
                found = pc.min_max(_micros(batch.column(names[column]))).as_py()
                if found["min"] is not None:
                    low, high = ranges.get(column, (found["min"], found["max"]))
                    ranges[column] = min(low, found["min"]), max(high, found["max"])
            if keys:
                kept.append(pa.record_batch([batch.column(names[key]) for key in keys], list(keys)))
    return FileContent(rows, ranges), pa.Table.from_batches(kept) if kept else None


def _micros(times: Any) -> Any:
    import pyarrow as pa

    return times.cast(pa.timestamp("us", "UTC")).cast(pa.int64())


def _names(schema: Any, field_ids: dict[str, int]) -> dict[str, str]:
    """The names that a file gives to the table's columns: those of its field ids, or else the same."""
    by_id = {int((field.metadata or {}).get(b"PARQUET:field_id", -1)): field.name for field in schema}
    return {column: by_id.get(field_id, column) for column, field_id in field_ids.items()}


def equal_keys(kept: list[pa.Table]) -> tuple[int, str | None]:
    """How many keys have more than one row, and one of them, for a person.

    :param kept: key columns of files, see :func:`read_file`
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = pa.concat_tables(kept, promote_options="permissive")
    counted = keys.group_by(keys.column_names).aggregate([([], "count_all")])
    doubled = counted.filter(pc.greater(counted["count_all"], 1))
    if not doubled.num_rows:
        return 0, None
    [first] = doubled.slice(0, 1).select(keys.column_names).to_pylist()
    return doubled.num_rows, ", ".join(f"{name} = {value}" for name, value in first.items())
