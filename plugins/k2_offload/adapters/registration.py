"""A cold table's entry in the catalog: which of its metadata files is current."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from k2_offload.adapters.cold_errors import load_if_there
from k2_offload.adapters.metadata_files import SUFFIX, metadata_files, read_manifests, read_state, state_of
from k2_offload.core.errors import UnreadableTable
from k2_offload.core.registration import TableState, last_of_each_line

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO


@dataclass(frozen=True)
class Found:
    """What a table's folder has.

    :param states: the last of each line
    :param passed_over: why a metadata file counts as if it were not there, by its URI
    """

    states: tuple[TableState, ...]
    passed_over: Mapping[str, str] = field(default_factory=dict)


class Registration:
    """The entry of one cold table. No file is written or removed.

    :param target: ``namespace.table``
    :param told: translates what the library raises
    """

    def __init__(self, catalog: Catalog, target: str, told: Callable[[], AbstractContextManager[None]]) -> None:
        self._catalog = catalog
        self._target = target
        self._told = told
        self._io: FileIO | None = None

    def current(self) -> TableState | None:
        """What the catalog names; ``None`` if nothing.

        :raises UnreadableTable: if it names what cannot be read
        """
        with self._told():
            table = load_if_there(self._catalog, self._target)
            if table is None:
                return None
            self._io = table.io  # with what the catalog grants for this table
            return state_of(table.metadata, table.metadata_location)

    @property
    def usual_location(self) -> str | None:
        """URI of the folder that a table gets which is not told where to be; ``None`` if only the catalog knows."""
        warehouse = self._catalog.properties.get("warehouse", "").rstrip("/")
        if not (warehouse.startswith("/") or urlparse(warehouse).scheme):
            return None
        return f"{warehouse}/{self._target.replace('.', '/')}"

    def find(self, place: str) -> Found:
        """The table's last states, of each line.

        :param place: URI of the table's folder, or of one metadata file
        :raises UnreadableTable: if the folder, or that one file, cannot be read
        """
        from pyiceberg.io import load_file_io  # noqa: PLC0415

        with self._told():
            io = self._io or load_file_io(self._catalog.properties, place)
            if place.endswith(SUFFIX):
                read_manifests(io, place)
                return Found((read_state(io, place),))
            files = metadata_files(io, place)
        passed_over: dict[str, str] = {}

        def read(file: str) -> TableState | None:
            try:
                with self._told():
                    return read_state(io, file)
            except UnreadableTable as error:
                passed_over[file] = error.reason
                return None

        def is_whole(state: TableState) -> bool:
            try:
                with self._told():
                    read_manifests(io, state.metadata_file)
            except UnreadableTable as error:
                passed_over[state.metadata_file] = error.reason
                return False
            return True

        return Found(tuple(last_of_each_line(files, read, is_whole)), passed_over)

    def replace(self, metadata_file: str) -> None:
        """Let the catalog name a metadata file, in place of what it names.

        :param metadata_file: URI
        """
        from pyiceberg.exceptions import NoSuchTableError  # noqa: PLC0415 - DAG files import this module

        with self._told():
            self._catalog.create_namespace_if_not_exists(self._target.partition(".")[0])
            with suppress(NoSuchTableError):
                self._catalog.drop_table(self._target)
            self._catalog.register_table(self._target, metadata_file)
