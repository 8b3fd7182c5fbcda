"""The metadata files in the folder of a cold table, whatever the catalog knows of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from k2_offload.adapters.cold_storage import file_names
from k2_offload.adapters.snapshot_chain import read_snapshot
from k2_offload.core.errors import DamagedTable
from k2_offload.core.exactly_once import find_published
from k2_offload.core.registration import TableState, file_name

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.table.metadata import TableMetadata

SUFFIX = ".metadata.json"


def metadata_files(io: FileIO, location: str) -> list[str]:
    """URIs of the metadata files of a table, newest first by the number in their names.

    :param location: URI of the table's folder
    """
    folder = f"{location.rstrip('/')}/metadata"
    names = sorted((name for name in file_names(io, folder) if name.endswith(SUFFIX)), key=_version_of, reverse=True)
    return [f"{folder}/{name}" for name in names]


def read_state(io: FileIO, file: str) -> TableState:
    """What a metadata file says."""
    from pyiceberg.serializers import FromInputFile  # noqa: PLC0415 - DAG files import this module and must parse fast

    return state_of(FromInputFile.table_metadata(io.new_input(file)), file)


def state_of(metadata: TableMetadata, file: str) -> TableState:
    """The same, of what has been read.

    :param file: URI that it was read from
    """
    snapshot = metadata.current_snapshot()
    return TableState(
        file,
        str(metadata.table_uuid),
        metadata.location,
        0 if metadata.format_version == 1 else metadata.last_sequence_number,
        datetime.fromtimestamp(metadata.last_updated_ms / 1000, UTC),
        int(snapshot.summary["total-records"] or 0) if snapshot and snapshot.summary else 0,
        _watermark(metadata),
        frozenset(file_name(entry.metadata_file) for entry in metadata.metadata_log),
    )


def other_table(io: FileIO, location: str, table_uuid: str) -> TableState | None:
    """The newest state of another table in a table's folder, unless nothing ever was in that."""
    states: Iterator[TableState] = (read_state(io, file) for file in metadata_files(io, location))
    return next((state for state in states if state.table_uuid != table_uuid and not state.new), None)


def _watermark(metadata: TableMetadata) -> datetime | None:
    snapshots = {each.snapshot_id: read_snapshot(each) for each in metadata.snapshots}
    branches = {name: branch.snapshot_id for name, branch in metadata.refs.items()}
    try:
        published = find_published("", str(metadata.table_uuid), metadata.current_snapshot_id, branches, snapshots.get)
    except DamagedTable:
        return None
    return published.window_id.window.high if published is not None else None


def _version_of(name: str) -> int:
    """Of a metadata file, such as 00012-….metadata.json."""
    number = name.partition("-")[0]
    return int(number) if number.isdecimal() else -1
