"""The cold tier's storage, through pyiceberg's file access: small files that show what may be done there."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING
from urllib.parse import urlparse

if TYPE_CHECKING:
    from pyiceberg.io import FileIO


def file_names(io: FileIO, folder: str) -> list[str]:
    """Names of the files that stand right in a folder; none if there is no such folder.

    :param folder: URI
    """
    if hasattr(io, "get_fs"):  # pyiceberg's access through fsspec
        files = io.get_fs(urlparse(folder).scheme or "file")
        files.invalidate_cache()
        try:
            return [path.rpartition("/")[2] for path in files.ls(folder, detail=False)]
        except FileNotFoundError:
            return []
    from pyarrow.fs import FileSelector
    from pyiceberg.io.pyarrow import PyArrowFileIO  # noqa: PLC0415

    scheme, host, path = PyArrowFileIO.parse_location(folder)
    selected = io.fs_by_scheme(scheme, host).get_file_info(FileSelector(path, allow_not_found=True))  # type: ignore[attr-defined]
    return [file.base_name for file in selected]


class ColdStorage:
    """A folder of the storage.

    :param location: its URI
    :param told: translates what the library raises, see :func:`k2_offload.adapters.cold_errors.told`
    """

    def __init__(self, location: str, io: FileIO, told: Callable[[], AbstractContextManager[None]]) -> None:
        self.location = location.rstrip("/")
        self._io = io
        self._told = told

    def new_file(self) -> str:
        """URI of a file that does not exist; it stands right in the folder, so that no empty one is left behind."""
        return f"{self.location}/k2_validate-{uuid.uuid4().hex}.parquet"

    def write(self, uri: str, content: bytes) -> None:
        """Write a file."""
        with self._told(), self._io.new_output(uri).create() as stream:
            stream.write(content)

    def read(self, uri: str) -> bytes | None:
        """What a file holds; ``None`` if there is none."""
        with self._told():
            try:  # not exists(): fsspec's never finds a file:///
                with self._io.new_input(uri).open() as stream:
                    return stream.read()
            except FileNotFoundError:
                return None

    def remove(self, uri: str) -> None:
        """Remove a file."""
        with self._told():
            self._io.delete(uri)
