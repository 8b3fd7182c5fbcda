"""The metadata files in the folder of a cold table, whatever the catalog knows of them."""

from __future__ import annotations

from datetime import UTC, datetime
from gzip import BadGzipFile
from typing import TYPE_CHECKING

from k2_offload.adapters.cold_storage import file_names
from k2_offload.adapters.snapshot_chain import snapshots_of, summary_total
from k2_offload.core.errors import DamagedTable
from k2_offload.core.exactly_once import find_published
from k2_offload.core.registration import TableState, file_name, version_of

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.table.metadata import TableMetadata

SUFFIX = ".metadata.json"


def metadata_files(io: FileIO, location: str) -> list[str]:
    """URIs of the metadata files of a table, newest first by the number in their names.

    :param location: URI of the table's folder
    """
    folder = f"{location.rstrip('/')}/metadata"
    names = sorted((name for name in file_names(io, folder) if name.endswith(SUFFIX)), key=version_of, reverse=True)
    return [f"{folder}/{name}" for name in names]


def read_state(io: FileIO, file: str) -> TableState:
    """What a metadata file says."""
    return state_of(_read(io, file), file)


def read_manifests(io: FileIO, file: str) -> None:
    """Read the list of manifests of the current snapshot, which a refused commit takes back before it ends."""
    snapshot = _read(io, file).current_snapshot()
    if snapshot is not None:
        snapshot.manifests(io)


def _read(io: FileIO, file: str) -> TableMetadata:
    from pyiceberg.serializers import FromInputFile  # noqa: PLC0415 - DAG files import this module and must parse fast

    return FromInputFile.table_metadata(io.new_input(file))


def state_of(metadata: TableMetadata, file: str) -> TableState:
    """The same, of what has been read.

    :param file: URI that it was read from
    """
    return TableState(
        file,
        str(metadata.table_uuid),
        metadata.location,
        0 if metadata.format_version == 1 else metadata.last_sequence_number,
        datetime.fromtimestamp(metadata.last_updated_ms / 1000, UTC),
        summary_total(metadata, "total-records") or 0,
        _watermark(metadata),
        frozenset(file_name(entry.metadata_file) for entry in metadata.metadata_log),
    )


def other_table(io: FileIO, location: str, table_uuid: str) -> TableState | None:
    """The newest state of another table in a table's folder, unless nothing ever was in that."""
    states = (_read_if_whole(io, file) for file in metadata_files(io, location))
    return next((each for each in states if each and each.table_uuid != table_uuid and not each.new), None)


def _read_if_whole(io: FileIO, file: str) -> TableState | None:
    """``None`` if it is half of a file, left by a writer that died, or has gone meanwhile."""
    from pyiceberg.exceptions import ValidationError  # noqa: PLC0415

    try:
        return read_state(io, file)
    except (ValidationError, UnicodeDecodeError, BadGzipFile, EOFError, FileNotFoundError):
        return None


def _watermark(metadata: TableMetadata) -> datetime | None:
    branches = {name: branch.snapshot_id for name, branch in metadata.refs.items()}
    try:
        head, snapshot_of = metadata.current_snapshot_id, snapshots_of(metadata)
        published = find_published("", str(metadata.table_uuid), head, branches, snapshot_of)
    except DamagedTable:
        return None
    return published.window_id.window.high if published is not None else None
