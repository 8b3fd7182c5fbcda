"""pyiceberg's access to files through pyarrow, for object stores whose certificate is of an authority of the user's."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from pyiceberg.io.pyarrow import PyArrowFileIO

from k2_offload.core.connections import STORE_AUTHORITIES
from k2_offload.core.errors import ConfigurationError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_ARGUMENT = "tls_ca_file_path"


class TrustingFiles(PyArrowFileIO):
    """With the property :data:`~k2_offload.core.connections.STORE_AUTHORITIES`, for which pyiceberg has none."""

    def _initialize_s3_fs(self, netloc: str | None) -> FileSystem:
        # pyiceberg takes no further argument, and a file system says itself from which ones it could be made again.
        remake, (arguments,) = super()._initialize_s3_fs(netloc).__reduce__()
        if _ARGUMENT not in arguments:
            raise ConfigurationError(
                f"pyarrow {version('pyarrow')} cannot be told which authorities may sign a store's certificate. "
                "Nothing was sent and no row is lost. Install a newer one; then run `k2 validate`."
            )
        return remake({**arguments, _ARGUMENT: self.properties[STORE_AUTHORITIES]})
