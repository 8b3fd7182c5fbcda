"""What HTTP needs to know about output formats: content types, and how a result in pieces becomes one document.

The engine formats each block of a streamed result as a document of its own. For formats that are rows and nothing else
the pieces just follow each other; where rows come after a header, all headers but the first are cut off; any other
format (JSON, Parquet, Arrow …) can only be written as a whole.
"""

from __future__ import annotations

from io import BytesIO

from clickhouse_driver.reader import read_binary_bytes
from clickhouse_driver.varint import read_varint

DEFAULT_FORMAT = "TabSeparated"

_ROWS_ONLY = frozenset(
    {
        *("native", "rowbinary", "null", "tskv"),
        *("tabseparated", "tsv", "tabseparatedraw", "tsvraw", "csv"),
        *("jsoneachrow", "jsonlines", "ndjson", "jsonstringseachrow"),
        *("jsoncompacteachrow", "jsoncompactstringseachrow"),
    }
)
_NAMES_AND_TYPES, _NAMES = "withnamesandtypes", "withnames"

_CONTENT_TYPES = (
    ("tabseparated", "text/tab-separated-values; charset=UTF-8"),
    ("tsv", "text/tab-separated-values; charset=UTF-8"),
    ("csv", "text/csv; charset=UTF-8"),
    ("jsoneachrow", "application/x-ndjson; charset=UTF-8"),
    ("jsonlines", "application/x-ndjson; charset=UTF-8"),
    ("ndjson", "application/x-ndjson; charset=UTF-8"),
    ("json", "application/json; charset=UTF-8"),
    ("xml", "application/xml; charset=UTF-8"),
    ("pretty", "text/plain; charset=UTF-8"),
    ("vertical", "text/plain; charset=UTF-8"),
    ("values", "text/plain; charset=UTF-8"),
)


def content_type(format_name: str) -> str:
    """The Content-Type of a result in this format."""
    return next(
        (value for start, value in _CONTENT_TYPES if format_name.lower().startswith(start)), "application/octet-stream"
    )


def can_stream(format_name: str) -> bool:
    """Whether pieces of a result, each formatted by itself, can be joined to the whole."""
    return format_name.lower() in _ROWS_ONLY or has_header(format_name)


def has_header(format_name: str) -> bool:
    """Whether rows of this format come after a header that :func:`header_length` can measure."""
    return _rows_format(format_name) in _ROWS_ONLY and format_name.lower() not in _ROWS_ONLY


def header_length(format_name: str, piece: bytes) -> int:
    """The length in bytes of the header that ``piece``, formatted by itself, begins with."""
    with_types = format_name.lower().endswith(_NAMES_AND_TYPES)
    if format_name.lower().startswith("rowbinary"):
        buffer = _ByteReader(piece)
        column_count = read_varint(buffer)
        for _ in range(column_count * (2 if with_types else 1)):
            read_binary_bytes(buffer)
        return buffer.tell()
    end = piece.index(b"\n") + 1
    return piece.index(b"\n", end) + 1 if with_types else end


def _rows_format(format_name: str) -> str:
    return format_name.lower().removesuffix(_NAMES_AND_TYPES).removesuffix(_NAMES)


class _ByteReader(BytesIO):
    """Bytes as clickhouse-driver's readers take them."""

    def read_one(self) -> int:
        return self.read(1)[0]
